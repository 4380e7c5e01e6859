"""May this device leave this sample? Rules without a socket."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from device_agent.contract.errors import BadInput, NotWritable
from device_agent.samples.seal import MOST_BYTES, file_name, read_head
from fleet.samples.archive import Archive

DAY_MS = 86_400_000
_PATH = re.compile(r"/samples/([a-z0-9-]{3,32})/([0-9a-f]{64})")


class Refused(Exception):
    """An HTTP status, a line for the device, and after how many seconds another attempt makes sense."""

    def __init__(self, status: int, text: str, retry_s: int | None = None) -> None:
        super().__init__(text)
        self.status, self.text, self.retry_s = status, text, retry_s


class Wanted(NamedTuple):
    """An upload that may go on: whose, its name, how many bytes are to come, and whether it is here already."""

    device: str
    sha256: str
    length: int
    known: bool


class Intake:
    """What is taken: of a device in its own name, one at a time, up to `quota_bytes` a day."""

    def __init__(
        self, archive: Archive, *, quota_bytes: int, clock_ms: Callable[[], int], most_bytes: int = MOST_BYTES
    ) -> None:
        self._archive, self._quota, self._clock_ms, self.most_bytes = archive, quota_bytes, clock_ms, most_bytes
        self._busy: set[str] = set()
        self._lock = threading.Lock()

    @contextmanager
    def turn(self, device: str) -> Iterator[None]:
        """The only upload of a device at this time.

        Raises:
            Refused: there is another.
        """
        with self._lock:
            if device in self._busy:
                raise Refused(429, "another upload of this device is under way", 5)
            self._busy.add(device)
        try:
            yield
        finally:
            with self._lock:
                self._busy.discard(device)

    def judge(self, name: str, path: str, length: str | None, *, chunked: bool) -> Wanted:
        """A request before its body is read; `name` is that of the certificate, `length` what the header says.

        Raises:
            Refused: another's name, no such place, no length, too long, or over the day's quota.
        """
        found = _PATH.fullmatch(path)
        if not found:
            raise Refused(404, "samples go to /samples/DEVICE/SHA256")
        device, sha256 = found.groups()
        if device != name:
            raise Refused(403, "the certificate names another device")
        if chunked or length is None or not re.fullmatch(r"[0-9]{1,15}", length):
            raise Refused(411, "a Content-Length is wanted")
        size = int(length)
        if not 0 < size <= self.most_bytes:
            raise Refused(413, f"{size} bytes, a sample has 1 to {self.most_bytes}")
        try:
            known = self._archive.holds(device, sha256)
            used = 0 if known else self._archive.used(device, self._clock_ms() - DAY_MS)
        except NotWritable:
            raise Refused(503, "the store cannot be read", 60) from None
        if not known and used + size > self._quota:
            raise Refused(429, f"{used} bytes within a day, {self._quota} are allowed", 3600)
        return Wanted(device, sha256, size, known)

    def take(self, wanted: Wanted, body: bytes) -> None:
        """Keep a body that came whole.

        Raises:
            Refused: not what its name says, no sample, another device's, or there is no room.
            NotWritable: the disk or the store cannot be written; to be said here, and answered with 507.
        """
        if file_name(body) != wanted.sha256:
            raise Refused(422, "the body has another SHA-256 than the path")
        try:
            head = read_head(body)
        except BadInput as error:
            raise Refused(422, str(error)) from None
        if head.device != wanted.device:
            raise Refused(422, "the sample says that it is of another device")
        if not wanted.known:
            self._archive.add(wanted.sha256, head, body, self._clock_ms())
