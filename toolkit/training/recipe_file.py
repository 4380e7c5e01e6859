"""A recipe in a TOML file: the names are those of `recipe` in run.json, one level deep."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from device_agent.contract.errors import BadInput, NotFound
from profiles.explanation import nearest, parse
from toolkit.models.architecture import Architecture
from toolkit.training.recipe import Recipe

OPTIONS = {"model": "family", "width": "alpha"}  # as the command line has them
CLOSED = frozenset({"architecture", "weights_sha256", "source_sha256", "distil"})


def read_overrides(path: Path) -> dict[str, Any]:
    """The fields of Recipe and Architecture that a file states, of their types; their ranges are not looked at.

    Raises:
        NotFound: no such file.
        BadInput: not TOML, an unknown name, a value of another type.
    """
    if not path.is_file():
        raise NotFound(f"{path}: no such recipe; give a TOML file, or auto")
    fields = {
        field.name: field.type
        for kind in (Recipe, Architecture)
        for field in msgspec.structs.fields(kind)
        if field.name not in CLOSED
    }
    found: dict[str, Any] = {}
    for name, value in parse(path).items():
        if name not in fields:
            meant = f"; did you mean {OPTIONS[name]!r}?" if name in OPTIONS else nearest(name, fields)
            raise BadInput(f"{path}: no {name!r} in a recipe{meant}; known are {', '.join(fields)}")
        try:
            found[name] = msgspec.convert(value, fields[name])
        except msgspec.ValidationError as error:
            raise BadInput(f"{path}: {name}: {str(error).lower()}") from error
    return found
