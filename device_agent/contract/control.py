"""Config, Command, Response and Job: what the fleet asks of a device, signed, and what it answers.

A signature (Ed25519) covers the device's name too, so that what was asked of one device is nothing to another.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from device_agent.contract.report import U63

Signature = Annotated[bytes, Meta(max_length=64)]
Nonce = Annotated[bytes, Meta(min_length=8, max_length=32)]
MOST_CONFIG_BYTES, MOST_COMMAND_BYTES, MOST_TEXT = 2048, 1024, 512
_DOMAIN = "lineside/1"


class Config(msgspec.Struct, frozen=True, array_like=True):
    """Desired state, retained. `version` only grows; `settings` is a JSON text."""

    schema: int
    version: U63
    settings: str
    signature: Signature = b""

    def signed(self, device: str) -> bytes:
        """What the signature covers."""
        return msgspec.msgpack.encode([_DOMAIN, "config", device, self.schema, self.version, self.settings])

    @property
    def nonce(self) -> bytes:
        """By which the device's response names it."""
        return self.version.to_bytes(8, "big")


class Command(msgspec.Struct, frozen=True, array_like=True):
    """One request, never retained: void after `expires_ms` (wall clock), and once its `nonce` was seen."""

    schema: int
    nonce: Nonce
    expires_ms: U63
    name: str
    arguments: str = ""
    reply_topic: str = ""
    signature: Signature = b""

    def signed(self, device: str) -> bytes:
        """What the signature covers."""
        fields = [self.schema, self.nonce, self.expires_ms, self.name, self.arguments, self.reply_topic]
        return msgspec.msgpack.encode([_DOMAIN, "command", device, *fields])


class Response(msgspec.Struct, frozen=True, array_like=True):
    """Answer to the command of the same nonce, on the device's own response topic."""

    schema: int
    nonce: Nonce
    ok: bool
    text: str = ""


class Job(msgspec.Struct, frozen=True, array_like=True):
    """A bundle to install; the digest is the sha256 of its file."""

    schema: int
    id: str
    bundle: str
    version: str
    sha256: Annotated[bytes, Meta(min_length=32, max_length=32)]
    state: str = "offered"
