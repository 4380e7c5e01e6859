"""Packages that come with an extra, imported where they are used."""

from __future__ import annotations

import importlib
from types import ModuleType

from device_agent.contract.errors import MissingPackage


def require(module: str, *, extra: str) -> ModuleType:
    """The imported module, or one sentence with the command that installs it.

    >>> require("math", extra="toolkit").floor(2.5)
    2
    >>> require("no_such_package", extra="camera")
    Traceback (most recent call last):
    device_agent.contract.errors.MissingPackage: no_such_package is not installed: pip install "lineside[camera]"

    Raises:
        MissingPackage: the package, or a package that it needs, cannot be imported.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        missing = error.name or module
        where = module if missing.split(".")[0] == module.split(".")[0] else f"{module} needs {missing}, which"
        raise MissingPackage(f'{where} is not installed: pip install "lineside[{extra}]"') from error
