"""Whose word counts: signatures of the fleet's key."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from device_agent.contract.control import Command, Config
from device_agent.contract.credentials import look_at
from device_agent.contract.errors import BadInput

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey


class Trust:
    """The fleet's public key, signing.pub.

    Raises:
        NotFound, BadInput: the file is not there, or holds no Ed25519 key.
    """

    def __init__(self, path: Path) -> None:
        self._key = read_key(path)

    def signed(self, message: Config | Command, device: str) -> bool:
        """Is it signed by the fleet, for this device?"""
        from cryptography.exceptions import InvalidSignature

        try:
            self._key.verify(message.signature, message.signed(device))
        except InvalidSignature:
            return False
        return True


def read_key(path: Path) -> Ed25519PublicKey:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey  # here: it takes its time to import
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    content = look_at("fleet key", path)
    found: Any = None
    try:
        found = load_pem_public_key(content)
    except ValueError:
        found = None
    if not isinstance(found, Ed25519PublicKey):
        raise BadInput(f"fleet key {path}: holds no Ed25519 public key in PEM; it is signing.pub of the fleet's keys")
    return found
