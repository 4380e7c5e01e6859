"""The file that a trigger travels in to the workstation, signed where the fleet has a key, and the answer to it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from device_agent.contract.alert import Trigger, TriggerResult, signed_part
from device_agent.contract.codec import read_document_file
from device_agent.contract.credentials import look_at
from device_agent.contract.errors import BadInput, NotFound
from device_agent.contract.files import write_whole

KEY = "signing.key"
SENT = ("labelling", "training")


def write_trigger(path: Path, trigger: Trigger, keys: Path | None) -> bool:
    """Write a trigger's file; with a folder of the fleet's keys it is signed. Whether it was.

    Raises:
        BadInput: it is not approved, or has ended; the key is none.
        NotFound: there is no key in `keys`.
        NotWritable: the disk is full, read-only or forbids it.
    """
    if trigger.state not in SENT:
        raise BadInput(
            f"trigger {trigger.id}: is {trigger.state}; only one that is {' or '.join(SENT)} goes to the workstation"
        )
    text = msgspec.json.encode(msgspec.structs.replace(trigger, signature=""), order="sorted")
    if keys is not None:
        signature = _key(keys / KEY).sign(signed_part(text)).hex()
        text = msgspec.json.encode(msgspec.structs.replace(trigger, signature=signature), order="sorted")
    write_whole(path, msgspec.json.format(text, indent=2) + b"\n")
    return keys is not None


def read_result(path: Path) -> TriggerResult:
    """What lineside train wrote of a trigger.

    Raises:
        NotFound, UnknownSchema, BadInput: no such file, of another major schema, or none.
    """
    result = read_document_file(path, TriggerResult)
    if result is None:
        raise NotFound(f"{path}: no such file; lineside train --trigger writes it into the folder of its run")
    return result


def _key(path: Path) -> Any:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    found: Any = None
    try:
        found = load_pem_private_key(look_at("signing key", path), None)
    except (ValueError, TypeError):
        found = None
    except NotFound:
        raise NotFound(f"{path}: no such file; lineside-fleet keys init makes it") from None
    if not isinstance(found, Ed25519PrivateKey):
        raise BadInput(f"{path}: holds no Ed25519 key without a password")
    return found
