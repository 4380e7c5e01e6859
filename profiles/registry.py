"""Profiles are files: built in, below those of the project, of the user, and of `--profiles DIR`.

A file `<id>.toml` in a higher folder takes the place of one in a lower folder, and may extend it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from device_agent.contract.codec import check_document_schema
from device_agent.contract.errors import BadInput, NotFound
from profiles.explanation import explain, nearest, parse, place
from profiles.schema import PROFILE_ID, PROFILE_SCHEMA, DeviceProfile

BUILT_IN = Path(__file__).parent / "boards"
PROJECT = Path("profiles.d")


class Listed(msgspec.Struct, frozen=True):
    """A profile and the file that it was read from."""

    id: str
    name: str
    file: str


def folders(extra: Path | None = None, *, project: Path = PROJECT, user: Path | None = None) -> list[Path]:
    """The folders with profiles, lowest first; those of the project and the user need not exist.

    Raises:
        NotFound: `extra` was named and is no folder.
    """
    if user is None:
        user = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "lineside" / "profiles"
    if extra is not None and not extra.is_dir():
        raise NotFound(f"{extra}: no such folder of profiles")
    return [BUILT_IN, *(folder for folder in (project, user) if folder.is_dir()), *([extra] if extra else [])]


def load(
    profile_id: str, extra_dir: Path | None = None, *, project: Path = PROJECT, user: Path | None = None
) -> DeviceProfile:
    """The profile of that id, with what it extends filled in.

    >>> load("raspberry-pi-4").artifacts
    ['litert-int8', 'litert-fp32']

    Raises:
        NotFound: no such profile; the sentence names the nearest.
        BadInput: the file is not a profile; the sentence names file, line and key.
    """
    layers = folders(extra_dir, project=project, user=user)
    files = _files(profile_id, layers)
    return _convert(_merge([parse(file) for file in files]), files)


def catalogue(extra_dir: Path | None = None, *, project: Path = PROJECT, user: Path | None = None) -> list[Listed]:
    """Every profile that can be loaded, by id.

    Raises:
        BadInput: one of the files is not a profile.
    """
    layers = folders(extra_dir, project=project, user=user)
    where = {file.stem: file for layer in layers for file in sorted(layer.glob("*.toml"))}
    return [
        Listed(name, load(name, extra_dir, project=project, user=user).name, str(where[name])) for name in sorted(where)
    ]


def _files(profile_id: str, layers: list[Path]) -> list[Path]:
    """The profile's file and those it extends, nearest first. `extends` of the own id means the layer below."""
    chain: list[Path] = []
    name, below = profile_id, len(layers)
    while True:
        file = _find(name, layers[:below])
        if file is None:
            raise _unknown(name, layers, chain)
        if file in chain:
            raise BadInput(f"{file}: extends itself by way of {' -> '.join(step.stem for step in chain)}")
        chain.append(file)
        parent = parse(file).get("extends")
        if parent is None:
            return chain
        if not isinstance(parent, str):
            raise BadInput(f'{place(file, "extends")}: extends must be an id like "raspberry-pi-4", got {parent!r}')
        below = layers.index(file.parent) if parent == name else len(layers)
        name = parent


def _find(name: str, layers: list[Path]) -> Path | None:
    if not PROFILE_ID.fullmatch(name):
        return None
    return next((file for layer in reversed(layers) if (file := layer / f"{name}.toml").is_file()), None)


def _unknown(name: str, layers: Iterable[Path], chain: list[Path]) -> NotFound:
    if chain and chain[-1].stem == name:
        return NotFound(f"{place(chain[-1], 'extends')}: extends {name!r} of a folder below, where there is none")
    known = sorted({file.stem for layer in layers for file in layer.glob("*.toml")})
    where = f"{place(chain[-1], 'extends')}: extends a profile that is not there" if chain else "no profile"
    return NotFound(f"{where}: {name!r}{nearest(name, known)}; known are {', '.join(known)}")


def _merge(tables: list[dict[str, Any]]) -> dict[str, Any]:
    """The tables as one, the first one's values before those of later ones; a Figure is replaced as a whole."""
    out: dict[str, Any] = {}
    for table in reversed(tables):
        out = _over(out, table)
    out.pop("extends", None)
    return out


def _over(low: dict[str, Any], high: dict[str, Any]) -> dict[str, Any]:
    merged = dict(low)
    for key, value in high.items():
        deeper = isinstance(value, dict) and isinstance(merged.get(key), dict) and "value" not in value
        merged[key] = _over(merged[key], value) if deeper else value
    return merged


def _convert(table: dict[str, Any], files: list[Path]) -> DeviceProfile:
    first = files[0]
    check_document_schema(str(table.get("schema", PROFILE_SCHEMA)), where=str(first), reads=PROFILE_SCHEMA)
    try:
        profile = msgspec.convert(table, DeviceProfile)
    except msgspec.ValidationError as error:
        raise explain(str(error), table, files) from error
    if profile.id != first.stem:
        raise BadInput(f"{place(first, 'id')}: id must be the file's name {first.stem!r}, got {profile.id!r}")
    missing = {name.rpartition("-")[0] for name in profile.artifacts} - set(profile.runtimes)
    if missing:
        raise BadInput(f"{place(first, 'artifacts')}: artifacts need [runtimes.{min(missing)}], which is not described")
    return profile
