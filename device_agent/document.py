"""The agent's configuration as a TOML file: the options of `lineside-agent run` by their names, and tables."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from device_agent.contract.errors import BadInput, NotFound
from device_agent.contract.reading import read_plain
from device_agent.drift import BreakerSettings
from device_agent.local.settings import MetricsSettings, PreviewSettings
from device_agent.outputs.settings import EXPECTED as LINE_EXPECTED
from device_agent.outputs.settings import FILES as LINE_FILES
from device_agent.outputs.settings import LineSettings
from device_agent.samples.settings import SampleSettings
from device_agent.samples.settings import read_settings as read_samples
from device_agent.shadow import ShadowSettings

_MOST = 1 << 16
_FILES = ("bundle", "state", "ca", "cert", "key", "fleet_key")
_SECRETS = _FILES[2:]
_EXPECTED = {
    "device": "3 to 32 of a-z, 0-9 and '-'",
    "fps": "frames per second from 0.01 to 1000",
    "interval": "seconds from 0.1 to 3600",
    "frames": "a whole number from 1",
    "verdicts": '"-" or "none"',
    "encoding": '"msgpack" or "json"',
    "log": '"plain" or "json"',
    "roi": "[left, top, width, height] in shares of the frame, 0 to 1",
    "camera": "tables [[camera]]",
    "line": 'a table, such as [line] with mqtt = "mqtt://localhost/line/1/verdict"',
    "preview": 'a table, such as [preview] with listen = "127.0.0.1:8088"',
    "shadow": 'a table, such as [shadow] with bundle = "candidate.lineside"',
    "metrics": 'a table, such as [metrics] with listen = "127.0.0.1:9108"',
    **LINE_EXPECTED,
}
_KINDS = {
    "object": "a table",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "array": "a list",
}
_WHERE = re.compile(r" - at `\$\.?(?P<path>[^`]*)`")
_STEP = re.compile(r"([^.\[\]]+)|\[(\d+)\]")
_Text = Annotated[str, Meta(min_length=1, max_length=4096)]
_Device = Annotated[str, Meta(pattern=r"^[a-z0-9-]{3,32}\Z")]
_Fps = Annotated[float, Meta(ge=0.01, le=1000)]
_Roi = Annotated[list[Annotated[float, Meta(ge=0, le=1)]], Meta(min_length=4, max_length=4)]


class CameraTable(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """A further camera, table [[camera]]: a device of its own to the fleet, with the same model, broker and runtime."""

    device: _Device
    source: _Text
    roi: _Roi | None = None
    fps: _Fps | None = None
    cert: _Text | None = None
    key: _Text | None = None
    trigger: _Text | None = None
    line: LineSettings | None = None


class Document(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """Every field may be left out; what the command line or the environment say counts for more. Names of files are
    relative to the configuration's own folder."""

    bundle: _Text | None = None
    source: _Text | None = None
    roi: _Roi | None = None
    broker: _Text | None = None
    ca: _Text | None = None
    cert: _Text | None = None
    key: _Text | None = None
    fleet_key: _Text | None = None
    device: _Device | None = None
    state: _Text | None = None
    artifact: _Text | None = None
    fps: _Fps | None = None
    interval: Annotated[float, Meta(ge=0.1, le=3600)] | None = None
    frames: Annotated[int, Meta(ge=1)] | None = None
    verdicts: Literal["-", "none"] | None = None
    encoding: Literal["msgpack", "json"] | None = None
    log: Literal["plain", "json"] | None = None
    trigger: _Text | None = None
    line: LineSettings | None = None
    camera: Annotated[list[CameraTable], Meta(max_length=15)] = []
    breaker: BreakerSettings = BreakerSettings()
    samples: SampleSettings | None = None
    preview: PreviewSettings | None = None
    metrics: MetricsSettings | None = None
    shadow: ShadowSettings | None = None

    def options(self) -> dict[str, Any]:
        """The fields that are options of a command, by name."""
        found = {name: getattr(self, name) for name in self.__struct_fields__ if name not in TABLES}
        if self.roi is not None:
            found["roi"] = ",".join(f"{share:g}" for share in self.roi)
        return {name: value for name, value in found.items() if value is not None}

    def fields(self) -> list[tuple[str, Any]]:
        """What the tables hold with defaults filled in, as line.deadline_ms or camera[0].source; None is left out."""
        cameras = [(f"camera[{place}]", table) for place, table in enumerate(self.camera)]
        found: list[tuple[str, Any]] = []
        for name, table in [*cameras, *((name, getattr(self, name)) for name in TABLES[1:])]:
            found += _flat(name, msgspec.to_builtins(table))
        return found

    def secrets(self) -> list[Path]:
        """Every file that is named but the bundle: what a sandbox has to hand over."""
        tables: list[CameraTable | Document] = [self, *self.camera]
        names = [getattr(table, name, None) for table in tables for name in _SECRETS]
        names += [getattr(table.line, name) for table in tables if table.line for name in LINE_FILES]
        return [Path(name) for name in [*names, self.samples.key if self.samples else None] if name is not None]


def _flat(name: str, value: Any) -> list[tuple[str, Any]]:
    """Fields of fields by their paths.

    >>> _flat("line", {"late": "review", "mqtt": None})
    [('line.late', 'review')]
    """
    if isinstance(value, dict):
        return [pair for key, inner in value.items() for pair in _flat(f"{name}.{key}", inner)]
    return [] if value is None else [(name, value)]


TABLES = ("camera", "line", "breaker", "samples", "preview", "metrics", "shadow")
_READERS = {"samples": read_samples}
"""Tables that are read by those who know more of them than a type says."""


def read_config(path: Path) -> Document:
    """The configuration in a file.

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
        known = {name: value for name, value in raw.items() if name not in _READERS}
        found = msgspec.convert(known, Document)
    except msgspec.ValidationError as error:
        own = error.__cause__ if isinstance(error.__cause__, BadInput) else None
        raise BadInput(f"{path}: {own or _explained(str(error), raw)}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadInput(f"{path}: is not TOML: {str(error).lower()}") from error
    try:
        for name, read in _READERS.items():
            if not isinstance(raw.get(name, {}), dict):
                raise BadInput(f"{name} = {raw[name]!r}: must be a table")
            if name in raw:
                setattr(found, name, read(raw[name]))
    except BadInput as error:
        raise BadInput(f"{path}: {error}") from None
    return _placed(found, path.parent)


def _placed(document: Document, folder: Path) -> Document:
    """The same with the names of files as seen from here. Where systemd handed the configuration over, the files that
    it names lie beside it, by their last names."""
    handed = str(folder) == os.environ.get("CREDENTIALS_DIRECTORY")

    def place(name: str) -> str:
        return str(folder / (Path(name).name if handed else name))

    tables: list[CameraTable | Document] = [document, *document.camera]
    for table in tables:
        for field in _FILES:
            if (value := getattr(table, field, None)) is not None:
                setattr(table, field, place(value) if field in _SECRETS else str(folder / value))
        if table.source is not None:
            table.source = _source_from(table.source, folder)
        if table.line is not None:
            files = {name: place(value) for name in LINE_FILES if (value := getattr(table.line, name)) is not None}
            table.line = msgspec.structs.replace(table.line, **files)
    if document.shadow is not None:
        document.shadow = msgspec.structs.replace(document.shadow, bundle=str(folder / document.shadow.bundle))
    if document.samples is not None:
        document.samples = msgspec.structs.replace(document.samples, key=place(document.samples.key))
    return document


def _source_from(source: str, folder: Path) -> str:
    """A source's address with its folder or file as seen from here.

    >>> _source_from("folder:shots:once=1", Path("/etc/lineside")), _source_from("camera:0", Path("/etc"))
    ('folder:/etc/lineside/shots:once=1', 'camera:0')
    """
    kind, colon, rest = source.partition(":")
    return f"{kind}:{folder / rest}" if colon and kind in ("folder", "video") and rest else source


def _explained(said: str, raw: dict[str, Any]) -> str:
    """What is wrong with a field, what came, and what would work.

    >>> _explained("Expected `float` <= 3600.0 - at `$.interval`", {"interval": 9999})
    'interval = 9999: must be seconds from 0.1 to 3600'
    >>> _explained("Invalid enum value 'stop' - at `$.breaker.on_drift`", {"breaker": {"on_drift": "stop"}})
    "breaker.on_drift = 'stop': must be 'report' or 'safe'"
    >>> _explained("Object contains unknown field `brokers`", {"brokers": "x"})[:45]
    "no field 'brokers'; known are bundle, source,"
    """
    found = _WHERE.search(said)
    path = found["path"] if found else ""
    steps = [name or int(place) for name, place in _STEP.findall(path)]
    leaf = next((step for step in reversed(steps) if isinstance(step, str)), "")
    kind = _type_at(steps)
    if "unknown field" in said:
        known = ", ".join(kind.__struct_fields__) if kind is not None else ""
        where = f"{path}: " if path else ""
        return f"{where}no field {said.split('`')[1]!r}; known are {known}"
    if "missing required field" in said:
        return f"{path}: needs a field {said.split('`')[1]!r}"
    value: Any = raw
    for step in steps:
        value = value[step] if isinstance(value, list) or step in value else None
    expected = _EXPECTED.get(leaf) or _choices(steps) or _in_words(said[: found.start() if found else None])
    return f"{path} = {value!r}: must be {expected}"


def _in_words(said: str) -> str:
    """What msgspec expects, without its names of types.

    >>> _in_words("Expected `float | null`, got `str`"), _in_words("Expected `int` >= 1")
    ('a number', 'a whole number >= 1')
    """
    expected = said.removeprefix("Expected ").partition(", got")[0].replace(" | null", "")
    if "`str`" in expected:
        return "text"
    for name, words in _KINDS.items():
        expected = expected.replace(f"`{name}`", words)
    return expected


def _type_at(steps: list[str | int]) -> type[msgspec.Struct] | None:
    """The table that a path leads to."""
    kind: Any = Document
    for step in steps:
        if isinstance(step, str):
            kind = next((field.type for field in msgspec.structs.fields(kind) if field.encode_name == step), None)
            kind = _table_in(kind)
        if kind is None:
            return None
    return kind  # type: ignore[no-any-return]


def _table_in(kind: Any) -> type[msgspec.Struct] | None:
    """The struct that a type is, or holds."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return kind
    return next((found for each in getattr(kind, "__args__", ()) if (found := _table_in(each))), None)


def _choices(steps: list[str | int]) -> str:
    """The words that a field may be, where it is one of a few."""
    if not steps or not isinstance(steps[-1], str):
        return ""
    table = _type_at(steps[:-1])
    fields = msgspec.structs.fields(table) if table else ()
    kind = next((field.type for field in fields if field.encode_name == steps[-1]), None)
    words = [word for word in getattr(kind, "__args__", ()) if isinstance(word, str)]
    return " or ".join(repr(word) for word in words)
