"""A sample sealed to the fleet: the device can write it, only the holder of samples.key can read it.

File: "LSMP", length of the head (2 bytes, big-endian), head, ephemeral public key (32 bytes), sealed content and tag.
The key is HKDF-SHA256 of an X25519 exchange between an ephemeral key and the fleet's, used once (RFC 7748, 5869); the
content is under ChaCha20-Poly1305 (RFC 8439) with all that stands before it as associated data. What is in clear is
what the monitor files it by.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta

from device_agent.contract.codec import decode, encode
from device_agent.contract.credentials import look_at
from device_agent.contract.errors import BadInput, TrustFailed
from device_agent.contract.histogram import BINS, MOST_CLASSES
from device_agent.contract.report import U63, ModelId

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

MAGIC = b"LSMP"
MOST_BYTES = 8 << 20
SUFFIX = ".sample"
_LENGTH, _PUBLIC, _TAG = 2, 32, 16
_NONCE = bytes(12)  # each key seals one file
_INFO = b"lineside sample 1"


class Head(msgspec.Struct, frozen=True, array_like=True):
    """What stands in clear: whose frame, of which model and time, its cell class * 24 + bin, why it was kept and, if it
    was drawn, with which probability; `key_id` names the key that it is sealed to."""

    schema: int
    device: Annotated[str, Meta(pattern=r"^[a-z0-9-]{3,32}\Z")]
    model: ModelId
    wall_ms: U63
    cell: Annotated[int, Meta(ge=0, lt=MOST_CLASSES * BINS)]
    reason: Annotated[str, Meta(pattern=r"^[a-z]{1,16}\Z")]
    probability: Annotated[float, Meta(gt=0, le=1)] | None
    key_id: Annotated[bytes, Meta(min_length=8, max_length=8)]


class Content(msgspec.Struct, frozen=True, array_like=True):
    """What is sealed: the picture as a PNG file, the answer's log-odds, and the fate of the part ("" without an
    operating point)."""

    schema: int
    png: bytes
    log_odds: float
    decision: Annotated[str, Meta(max_length=16)] = ""


def read_public(path: Path) -> X25519PublicKey:
    """The fleet's samples.pub.

    Raises:
        NotFound, BadInput: it is not there, or is no X25519 public key in PEM.
    """
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    found: object = None
    content = look_at("samples key", path)
    try:
        found = load_pem_public_key(content)
    except Exception as error:
        raise BadInput(f"samples key {path}: must be samples.pub of the fleet's keys, an X25519 key in PEM") from error
    if not isinstance(found, X25519PublicKey):
        raise BadInput(f"samples key {path}: is another kind of key; must be samples.pub, an X25519 key in PEM")
    return found


def read_private(path: Path) -> X25519PrivateKey:
    """The fleet's samples.key.

    Raises:
        NotFound, BadInput: it is not there, or is no X25519 private key in PEM.
    """
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    found: object = None
    content = look_at("samples key", path)
    try:
        found = load_pem_private_key(content, None)
    except Exception as error:
        raise BadInput(f"samples key {path}: must be samples.key of the fleet's keys, an X25519 key in PEM") from error
    if not isinstance(found, X25519PrivateKey):
        raise BadInput(f"samples key {path}: is another kind of key; must be samples.key, an X25519 key in PEM")
    return found


def key_id(public: X25519PublicKey) -> bytes:
    """The 8 bytes that tell one fleet's key from another's."""
    return hashlib.sha256(public.public_bytes_raw()).digest()[:8]


def seal(head: Head, content: Content, public: X25519PublicKey) -> bytes:
    """The file of a sample; nothing that this device keeps can open it again."""
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

    ephemeral = X25519PrivateKey.generate()
    written, made = encode(head), ephemeral.public_key().public_bytes_raw()
    clear = MAGIC + len(written).to_bytes(_LENGTH, "big") + written + made
    key = _derive(ephemeral.exchange(public), made, public.public_bytes_raw())
    return clear + ChaCha20Poly1305(key).encrypt(_NONCE, encode(content), clear)


def read_head(sealed: bytes) -> Head:
    """What a file says of itself in clear. Whether that is true only `unseal` can tell.

    Raises:
        BadInput, UnknownSchema: no sample, or one of a later version.
    """
    return _split(sealed)[0]


def unseal(sealed: bytes, private: X25519PrivateKey) -> tuple[Head, Content]:
    """Head and content of a sample's file.

    Raises:
        BadInput, UnknownSchema: no sample, or one of a later version.
        TrustFailed: sealed to another key, or changed since.
    """
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

    head, at = _split(sealed)
    mine = private.public_key()
    if head.key_id != key_id(mine):
        wanted, got = head.key_id.hex(), key_id(mine).hex()
        raise TrustFailed(f"is sealed to another key: {wanted}, this one is {got}")
    made = sealed[at - _PUBLIC : at]
    try:
        shared = private.exchange(X25519PublicKey.from_public_bytes(made))
        plain = ChaCha20Poly1305(_derive(shared, made, mine.public_bytes_raw())).decrypt(
            _NONCE, sealed[at:], sealed[:at]
        )
    except (InvalidTag, ValueError):
        raise TrustFailed("was changed after it was sealed") from None
    return head, decode(plain, Content)


def _split(sealed: bytes) -> tuple[Head, int]:
    """The head, and where the sealed content begins."""
    begin = len(MAGIC) + _LENGTH
    if sealed[: len(MAGIC)] != MAGIC:
        raise BadInput("is no sample")
    end = begin + int.from_bytes(sealed[len(MAGIC) : begin], "big")
    if len(sealed) < end + _PUBLIC + _TAG:
        raise BadInput(f"is cut off after {len(sealed)} bytes")
    return decode(sealed[begin:end], Head), end + _PUBLIC


def _derive(shared: bytes, made: bytes, public: bytes) -> bytes:
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    return HKDF(SHA256(), 32, made + public, _INFO).derive(shared)


def file_name(sealed: bytes) -> str:
    """Name of a sample: the SHA-256 of its file, 64 hexadecimal digits."""
    return hashlib.sha256(sealed).hexdigest()
