"""One frame in memory that two processes share. The latest wins; a torn read is impossible.

The writer makes the sequence number odd, writes, and makes it even. The reader copies and keeps the copy only if the
number was even and did not change meanwhile, and if the CRC-32 of the frame and its header fits, so that nothing
depends on the order in which another core sees the writes.
"""

from __future__ import annotations

import mmap
import os
import struct
import tempfile
import zlib

import numpy as np

from device_agent.contract.manifest import InputSpec
from device_agent.frames import Frame

_HEADER = struct.Struct("<QQqff")  # stamp, captured_ns, part or -1, capture_us, preprocess_us
_DIGEST = struct.Struct("<I")
_HEADER_AT = 8  # after the sequence number
_DIGEST_AT = _HEADER_AT + _HEADER.size
_IMAGE_AT = 64
_ATTEMPTS = 1000


class Mailbox:
    """Room for one fitted frame of `spec`. Made by the reader; the writer opens it again by its file descriptor."""

    def __init__(self, spec: InputSpec, descriptor: int | None = None) -> None:
        self._shape = (spec.height, spec.width, spec.channels)
        self._bytes = spec.height * spec.width * spec.channels
        self.descriptor = _shared_file(_IMAGE_AT + self._bytes) if descriptor is None else descriptor
        self._memory = mmap.mmap(self.descriptor, _IMAGE_AT + self._bytes)
        # a view stores the number in one piece; struct.pack_into first writes zeros, which a reader may see
        self._sequence = memoryview(self._memory)[:_HEADER_AT].cast("Q")
        self._taken = 0

    def put(self, frame: Frame) -> None:
        """Replace what is in the mailbox; `frame.image` is uint8 of the spec's shape."""
        memory, before = self._memory, self._sequence[0]
        image = frame.image.tobytes()
        part = -1 if frame.part is None else frame.part
        header = _HEADER.pack(frame.stamp, frame.captured_ns, part, frame.capture_us, frame.preprocess_us)
        self._sequence[0] = before + 1
        memory[_HEADER_AT:_DIGEST_AT] = header
        _DIGEST.pack_into(memory, _DIGEST_AT, zlib.crc32(image, zlib.crc32(header)))
        memory[_IMAGE_AT:] = image
        self._sequence[0] = before + 2

    def take(self) -> Frame | None:
        """The frame that was put last, None if it was taken before, or is not finished."""
        for _ in range(_ATTEMPTS):
            before = self._sequence[0]
            if before == self._taken:
                return None
            content = self._memory[:]
            if before % 2 or self._sequence[0] != before:
                continue
            header, image = content[_HEADER_AT:_DIGEST_AT], content[_IMAGE_AT:]
            if zlib.crc32(image, zlib.crc32(header)) != _DIGEST.unpack_from(content, _DIGEST_AT)[0]:
                continue
            self._taken = before
            stamp, captured_ns, part, capture_us, preprocess_us = _HEADER.unpack(header)
            pixels = np.frombuffer(image, np.uint8).reshape(self._shape)
            return Frame(pixels, stamp, captured_ns, None if part < 0 else part, capture_us, preprocess_us)
        return None

    def close(self) -> None:
        """Release the memory."""
        self._sequence.release()
        self._memory.close()
        os.close(self.descriptor)


def _shared_file(size: int) -> int:
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("lineside-mailbox")
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.truncate(descriptor, size)
    return descriptor
