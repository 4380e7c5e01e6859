"""Bytes to Structs and back. MessagePack on the wire, JSON for people; a wrong or newer message is one clear error.

A wire schema is one byte, major * 16 + minor. A newer minor appends fields, which an older reader passes over; an
older minor lacks fields, which take their defaults. A newer major is refused with both versions named.
"""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import msgspec

from device_agent.contract.errors import BadInput, UnknownSchema

SCHEMA = 1 * 16 + 1
T = TypeVar("T", bound=msgspec.Struct)


class _Head(msgspec.Struct, array_like=True):
    schema: int


def schema_text(schema: int) -> str:
    """Schema byte as people write it.

    >>> schema_text(16), schema_text(33)
    ('1.0', '2.1')
    """
    return f"{schema // 16}.{schema % 16}"


def encode(message: msgspec.Struct, *, encoding: str = "msgpack") -> bytes:
    """Bytes of a message: "msgpack" (the default) or "json"."""
    return msgspec.json.encode(message) if encoding == "json" else msgspec.msgpack.encode(message)


def decode(payload: bytes, kind: type[T]) -> T:
    """The message in `payload`, MessagePack or JSON (told apart by the first byte).

    Raises:
        UnknownSchema: another major schema.
        BadInput: truncated, of another shape, or with a field out of its range.
    """
    read = msgspec.json.decode if payload[:1] == b"[" else msgspec.msgpack.decode
    try:
        head = read(payload, type=_Head)
        if head.schema // 16 != SCHEMA // 16:
            raise UnknownSchema(
                f"{kind.__name__}: schema {schema_text(head.schema)} cannot be read, this version reads "
                f"{schema_text(SCHEMA)[:-1]}x"
            )
        return read(payload, type=kind)
    except (msgspec.ValidationError, msgspec.DecodeError) as error:
        raise BadInput(f"{kind.__name__}: {len(payload)} bytes that are none: {str(error).lower()}") from error
    except UnicodeDecodeError as error:
        raise BadInput(f"{kind.__name__}: {len(payload)} bytes with text that is not UTF-8 ({error.reason})") from None
    except RecursionError:
        raise BadInput(f"{kind.__name__}: {len(payload)} bytes nested too deeply") from None


class _DocumentHead(msgspec.Struct):
    schema: str


def read_document(text: bytes, kind: type[T], *, where: str, reads: str = "1.0") -> T:
    """The JSON document in `text`, which names its schema as "major.minor"; unknown fields are passed over.

    Raises:
        UnknownSchema: another major schema.
        BadInput: not JSON, of another shape, or with a field out of its range.
    """
    try:
        check_document_schema(msgspec.json.decode(text, type=_DocumentHead).schema, where=where, reads=reads)
        return msgspec.json.decode(text, type=kind)
    except (msgspec.ValidationError, msgspec.DecodeError) as error:
        raise BadInput(f"{where}: {str(error).lower()}") from error
    except UnicodeDecodeError as error:
        raise BadInput(f"{where}: text that is not UTF-8 ({error.reason})") from None
    except RecursionError:
        raise BadInput(f"{where}: nested too deeply") from None


def read_document_file(path: Path, kind: type[T], *, reads: str = "1.0", hint: str = "") -> T | None:
    """The document in the file `path`, see `read_document`; None where there is no file. `hint`: what mends a damage.

    Raises:
        UnknownSchema: another major schema.
        BadInput: a file that cannot be read or is damaged.
    """
    try:
        text = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise BadInput(f"{path}: cannot be read: {(error.strerror or str(error)).lower()}") from error
    try:
        return read_document(text, kind, where=str(path), reads=reads)
    except UnknownSchema:
        raise
    except BadInput as error:
        raise BadInput(f"{error}{hint}") from error


def check_document_schema(text: str, *, where: str, reads: str = "1.0") -> None:
    """Refuse a document whose "major.minor" schema has another major than `reads`.

    >>> check_document_schema("1.7", where="manifest.json")

    Raises:
        UnknownSchema: another major; both versions are named.
        BadInput: not "major.minor".
    """
    major, dot, minor = text.partition(".")
    if not (dot and len(text) <= 16 and text.isascii() and major.isdecimal() and minor.isdecimal()):
        raise BadInput(f'{where}: schema must read like "1.0", got {text[:40]!r}')
    if major != reads.partition(".")[0]:
        raise UnknownSchema(f"{where}: schema {text} cannot be read, this version reads {reads.partition('.')[0]}.x")
