"""The .keras file of a trained model."""

from __future__ import annotations

import re
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

from device_agent.contract.errors import BadInput, NotFound
from device_agent.contract.files import replacing
from toolkit.framework import load_keras
from toolkit.models.own import import_function


def save_model(model: Any, path: Path) -> None:
    """Write a .keras file wholly or not at all.

    Raises:
        NotWritable: the disk is full, read-only or forbids it.
    """
    with replacing(path) as temporary:
        # Keras wants the suffix and asks on a terminal before it replaces a file
        named = temporary.with_name(f"{temporary.name}.keras")
        try:
            model.save(named)
            named.replace(temporary)
        finally:
            named.unlink(missing_ok=True)


def load_model(path: Path, family: str = "") -> Any:
    """The Keras model in a .keras file, for inference. `family` is that of its run: the module of one's own network is
    imported where the file names classes that Keras does not have.

    Raises:
        NotFound: no such file.
        BadInput: not a Keras model, or one with classes that are not to be found.
    """
    if not path.is_file():
        raise NotFound(f"{path}: no such model")
    keras = load_keras()
    import_module("toolkit.models.layers")  # registers them
    if ":" in family:
        with suppress(BadInput):  # it may need none of the module's classes
            import_function(family)
    try:
        return keras.models.load_model(path, compile=False)
    except (ValueError, OSError, KeyError, TypeError) as error:
        missing = re.search(r"Could not locate (?:class|function) '(\w+)'", str(error))
        if missing:
            module = family.partition(":")[0] or "its module"
            raise BadInput(f"{path}: holds a {missing[1]}; start where {module} can be imported") from error
        raise BadInput(f"{path}: cannot be read as a Keras model; train again with --fresh") from error
