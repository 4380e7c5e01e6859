"""What is wrong with a profile's file: the line, the key, what came, and what was probably meant."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, get_args

import msgspec

from device_agent.contract.errors import BadInput, NotFound
from profiles.schema import DeviceProfile

_FINDING = re.compile(r"(?P<what>.*?)(?: - at `\$\.?(?P<where>[^`]*)`)?", re.DOTALL)
_UNKNOWN = re.compile(r"Object contains unknown field `(?P<key>[^`]*)`")
_GOT = re.compile(r", got `\w+`$")


def parse(file: Path) -> dict[str, Any]:
    """The TOML file as a dict.

    Raises:
        BadInput: not TOML; the sentence names line and column.
        NotFound: it cannot be read.
    """
    try:
        found: dict[str, Any] = msgspec.toml.decode(file.read_text(encoding="utf-8"))
    except msgspec.DecodeError as error:
        raise BadInput(f"{file}: not TOML: {str(error).lower()}") from error
    except UnicodeDecodeError as error:
        raise BadInput(f"{file}: not UTF-8 text") from error
    except OSError as error:
        raise NotFound(f"{file}: {(error.strerror or 'cannot be read').lower()}") from error
    return found


def nearest(word: str, known: Iterable[str]) -> str:
    """A question that names the most similar word, or nothing.

    >>> nearest("clok_mhz", ["cores", "clock_mhz"])
    ", did you mean 'clock_mhz'?"
    """
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f", did you mean {near[0]!r}?" if near else ""


def place(file: Path, key: str, table: list[str] | None = None) -> str:
    """ "file:line" of a key inside a table; "file" alone where it is not written in this file."""
    current, wanted = "", ".".join(table or [])
    inline = re.compile(rf"\s*{re.escape((table or [''])[-1])}\s*=") if table else None
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        header = re.match(r"\s*\[+\s*([^\]]+?)\s*\]+", line)
        current = header[1] if header else current
        inside = current == wanted or (inline is not None and inline.match(line))
        if f"{wanted}.{key}".lstrip(".") == current and header:
            return f"{file}:{number}"
        if inside and re.search(rf"(^|[{{,\s]){re.escape(key)}\s*=", line):
            return f"{file}:{number}"
    return str(file)


def explain(
    message: str, table: dict[str, Any], files: list[Path], kind: type[msgspec.Struct] = DeviceProfile
) -> BadInput:
    """The error for a finding of msgspec in `table`, a `kind` that was merged from `files`, nearest first."""
    found = _FINDING.fullmatch(message)
    what, where = (found["what"], found["where"] or "") if found else (message, "")
    path, value = _follow(re.findall(r"[^.\[\]]+|\[[^\]]*\]", where), table)
    unknown = _UNKNOWN.match(what)
    if unknown:
        path = _named(path, table, unknown["key"])
        key = ".".join([*path, unknown["key"]])
        file = _holder(files, [*path, unknown["key"]])
        known = [field.name for field in msgspec.structs.fields(_struct(path, kind))]
        return BadInput(f"{place(file, unknown['key'], path)}: unknown key {key}{nearest(unknown['key'], known)}")
    text = _GOT.sub("", what).lower().replace("`", "")
    if "enum value" in text:
        text = f"must be one of {', '.join(_choices(path, kind))}"
    elif not path or isinstance(value, dict | list):
        return BadInput(f"{files[0]}: {'.'.join(path)}{': ' if path else ''}{text}")
    return BadInput(f"{place(_holder(files, path), path[-1], path[:-1])}: {'.'.join(path)}: {text}, got {value!r}")


def _follow(steps: list[str], table: dict[str, Any]) -> tuple[list[str], Any]:
    """Names of the keys on the way, without list indices, and the value that the way leads to."""
    names: list[str] = []
    value: Any = table
    for step in steps:
        index = step.strip("[]")
        if step.startswith("[") and isinstance(value, list) and index.isdecimal():
            value = value[int(index)]
        elif isinstance(value, dict):
            name = next(iter(value), "") if index == "..." else index
            names.append("*" if index == "..." else name)
            value = value.get(name)
    return names, value


def _named(path: list[str], table: dict[str, Any], key: str) -> list[str]:
    """The path with a `*` (some key of a dict) replaced by the key under which `key` is found."""
    value: Any = table
    out = []
    for step in path:
        options = value if step == "*" and isinstance(value, dict) else {}
        name = next((name for name, inner in options.items() if isinstance(inner, dict) and key in inner), step)
        out.append(name)
        value = value.get(name) if isinstance(value, dict) else None
    return out


def _holder(files: list[Path], path: list[str]) -> Path:
    """The first file of the chain in which the key is written."""
    for file in files:
        value: Any = parse(file)
        for step in path:
            value = value[0] if isinstance(value, list) and value else value
            value = value.get(step) if isinstance(value, dict) else None
        if value is not None:
            return file
    return files[0]


def _struct(path: list[str], kind: type[msgspec.Struct]) -> type[msgspec.Struct]:
    """The Struct that describes the table at a path of a `kind`."""
    for step in path:
        inner = [field.type for field in msgspec.structs.fields(kind) if field.name == step]
        kind = next(iter(_structs(inner[0])), kind) if inner else kind
    return kind


def _structs(kind: Any) -> list[type[msgspec.Struct]]:
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return [kind]
    return [found for part in get_args(kind) for found in _structs(part)]


def _choices(path: list[str], kind: type[msgspec.Struct]) -> list[str]:
    fields = {field.name: field.type for field in msgspec.structs.fields(_struct(path[:-1], kind))}
    return [str(choice) for choice in get_args(fields.get(path[-1]))]
