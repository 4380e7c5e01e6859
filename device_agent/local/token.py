"""The preview's token: 32 hex characters in a file that only the agent's user may read."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
import stat
from contextlib import suppress
from pathlib import Path

from device_agent.contract.errors import BadInput, NotWritable

NAME = "preview.token"
_FORM = re.compile(rb"([0-9a-f]{32})\n?")


def open_token(state: Path) -> tuple[str, Path]:
    """The token of the state folder, made if there is none, and where it lies.

    Raises:
        BadInput: the file is a link, can be read by others, or holds no token.
        NotWritable: it cannot be made.
    """
    path = state / NAME
    with suppress(FileNotFoundError):
        return _read(path), path
    fresh = secrets.token_hex(16)
    temporary = path.with_name(f".{NAME}.{secrets.token_hex(4)}.part")
    try:
        state.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(fresh.encode() + b"\n")
            file.flush()
            os.fsync(descriptor)
        temporary.replace(path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise NotWritable(f"{path}: cannot be written: {(error.strerror or str(error)).lower()}") from error
    return fresh, path


def _read(path: Path) -> str:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise BadInput(f"{path}: cannot be read: {(error.strerror or str(error)).lower()}") from error
    try:
        found = os.fstat(descriptor)
        content = os.read(descriptor, 64) if stat.S_ISREG(found.st_mode) else b""
    finally:
        os.close(descriptor)
    if found.st_mode & 0o077:
        raise BadInput(f"{path}: others may read it; delete it, and the next start makes another one")
    token = _FORM.fullmatch(content)
    if token is None:
        raise BadInput(f"{path}: must hold 32 hex characters; delete it, and the next start makes another one")
    return token[1].decode()


def session_of(token: str) -> str:
    """What the browser keeps instead of the token: 64 hex characters that open the preview and give nothing else."""
    return hmac.new(token.encode(), b"preview session", hashlib.sha256).hexdigest()


def same(given: str, expected: str) -> bool:
    """Are they equal? Takes as long whatever they differ in."""
    return hmac.compare_digest(given.encode(errors="replace"), expected.encode())
