"""What an agent remembers of what it was asked, so that a restart makes nothing valid a second time."""

from __future__ import annotations

from pathlib import Path

import msgspec

from device_agent.contract.codec import read_document_file
from device_agent.contract.files import write_whole

NAME, VERSION = "remote.json", "remote-version"
MOST_NONCES = 256


class Memory(msgspec.Struct, kw_only=True):
    """The last configuration that was applied with its signature; the nonces of commands that have not expired yet,
    each with its expiry, and the latest time that was ever believed, both in ms since 1970."""

    schema: str = "1.0"
    version: int = 0
    settings: str = ""
    signature: bytes = b""
    nonces: dict[str, int] = {}
    latest_ms: int = 0

    def seen(self, nonce: bytes) -> bool:
        """Was this command taken before?"""
        return nonce.hex() in self.nonces

    def note(self, nonce: bytes, expires_ms: int, now_ms: int) -> None:
        """A command is taken. Nonces that have expired go; with too many the one that expires first is made to have
        expired, and everything that is as old with it."""
        self.latest_ms = max(self.latest_ms, now_ms)
        self.nonces[nonce.hex()] = expires_ms
        if len(self.nonces) > MOST_NONCES:
            self.latest_ms = max(self.latest_ms, min(self.nonces.values()) + 1)
        self.nonces = {name: until for name, until in self.nonces.items() if until >= self.latest_ms}


def read_memory(state: Path) -> Memory:
    """What was written last; nothing of it where there is no file.

    Raises:
        BadInput: a damaged file.
    """
    return read_document_file(state / NAME, Memory) or Memory()


def read_version(state: Path) -> int:
    """The version that was applied last, from a file of its own: an older one stays void when the other is damaged."""
    try:
        return int((state / VERSION).read_bytes()[:20])
    except (OSError, ValueError):
        return 0


def write_version(state: Path, version: int) -> None:
    """Keep the version that was applied last.

    Raises:
        NotWritable: the disk is full, read-only or forbids it.
    """
    write_whole(state / VERSION, str(version))


def write_memory(state: Path, memory: Memory) -> None:
    """Write it wholly or not at all.

    Raises:
        NotWritable: the disk is full, read-only or forbids it.
    """
    write_whole(state / NAME, msgspec.json.encode(memory))
