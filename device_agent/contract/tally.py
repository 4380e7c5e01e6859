"""The file in which a source accounts for its frames: 16 bytes a frame, only ever appended."""

from __future__ import annotations

import struct
from typing import NamedTuple

_RECORD = struct.Struct("<QQ")


class Handed(NamedTuple):
    """A frame's stamp, and when it was captured on the monotonic clock in ns."""

    stamp: int
    captured_ns: int


def write_handed(handed: Handed) -> bytes:
    """The record of a frame."""
    return _RECORD.pack(*handed)


def read_tally(content: bytes) -> list[Handed]:
    """The frames of a file; a record that was cut short is no frame.

    >>> read_tally(write_handed(Handed(0, 70)) + write_handed(Handed(1, 95)) + b"cut")
    [Handed(stamp=0, captured_ns=70), Handed(stamp=1, captured_ns=95)]
    """
    whole = len(content) // _RECORD.size * _RECORD.size
    return [Handed(*record) for record in _RECORD.iter_unpack(content[:whole])]
