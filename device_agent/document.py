"""The agent's configuration as a TOML file: the options of `lineside-agent run` by their names."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from device_agent.contract.errors import BadInput, NotFound
from device_agent.contract.reading import read_plain

_MOST = 1 << 16
_FILES = ("bundle", "state", "ca", "cert", "key")
_EXPECTED = {
    "device": "3 to 32 of a-z, 0-9 and '-'",
    "fps": "frames per second from 0.01 to 1000",
    "interval": "seconds from 0.1 to 3600",
    "frames": "a whole number from 1",
    "verdicts": '"-" or "none"',
    "encoding": '"msgpack" or "json"',
    "log": '"plain" or "json"',
}
_Text = Annotated[str, Meta(min_length=1, max_length=4096)]


class Document(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """Every field may be left out; what the command line or the environment say counts for more. Names of files are
    relative to the configuration's own folder."""

    bundle: _Text | None = None
    source: _Text | None = None
    broker: _Text | None = None
    ca: _Text | None = None
    cert: _Text | None = None
    key: _Text | None = None
    device: Annotated[str, Meta(pattern=r"^[a-z0-9-]{3,32}\Z")] | None = None
    state: _Text | None = None
    artifact: _Text | None = None
    fps: Annotated[float, Meta(ge=0.01, le=1000)] | None = None
    interval: Annotated[float, Meta(ge=0.1, le=3600)] | None = None
    frames: Annotated[int, Meta(ge=1)] | None = None
    verdicts: Literal["-", "none"] | None = None
    encoding: Literal["msgpack", "json"] | None = None
    log: Literal["plain", "json"] | None = None


def read_config(path: Path) -> dict[str, Any]:
    """The fields that the file has, by name.

    Raises:
        NotFound, BadInput: it is not there or cannot be read; not TOML; a field that is not known or not what it has
            to be, with what came.
    """
    try:
        content = read_plain(path, _MOST)
    except FileNotFoundError:
        raise NotFound(f"{path}: no such file") from None
    except OSError as error:
        raise BadInput(f"{path}: cannot be read: {(error.strerror or str(error)).lower()}") from error
    try:
        raw = msgspec.toml.decode(content)
        found = msgspec.convert(raw, Document)
    except msgspec.ValidationError as error:
        raise BadInput(f"{path}: {_explained(str(error), raw)}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadInput(f"{path}: is not TOML: {str(error).lower()}") from error
    fields = {name: value for name in Document.__struct_fields__ if (value := getattr(found, name)) is not None}
    for name in _FILES:
        if name in fields:
            fields[name] = str(path.parent / fields[name])
    return fields


def _explained(said: str, raw: dict[str, Any]) -> str:
    """What is wrong with a field, what came, and what would work.

    >>> _explained("Expected `float` <= 3600.0 - at `$.interval`", {"interval": 9999})
    'interval = 9999: must be seconds from 0.1 to 3600'
    >>> _explained("Object contains unknown field `brokers`", {"brokers": "x"})[:45]
    "no field 'brokers'; known are bundle, source,"
    """
    if "unknown field" in said:
        return f"no field {said.split('`')[1]!r}; known are {', '.join(Document.__struct_fields__)}"
    name = said.partition("`$.")[2].rstrip("`").partition(".")[0].partition("[")[0]
    return f"{name} = {raw.get(name)!r}: must be {_EXPECTED.get(name, 'text')}"
