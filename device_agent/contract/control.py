"""Config, Command, Response and Job: what the fleet asks of a device, and what it answers. All signed but Response."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from device_agent.contract.report import U63

Signature = Annotated[bytes, Meta(max_length=64)]


class Config(msgspec.Struct, frozen=True, array_like=True):
    """Desired state, retained. `version` only grows; `settings` is the JSON text that `signature` (Ed25519) covers."""

    schema: int
    version: U63
    settings: str
    signature: Signature = b""


class Command(msgspec.Struct, frozen=True, array_like=True):
    """One request, never retained: void after `expires_ms` (wall clock), and once its `nonce` was seen."""

    schema: int
    nonce: Annotated[bytes, Meta(min_length=8, max_length=32)]
    expires_ms: U63
    name: str
    arguments: str = ""
    reply_topic: str = ""
    signature: Signature = b""


class Response(msgspec.Struct, frozen=True, array_like=True):
    """Answer to the command of the same nonce."""

    schema: int
    nonce: Annotated[bytes, Meta(min_length=8, max_length=32)]
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
