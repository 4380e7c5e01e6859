"""Keras on TensorFlow, imported in one place and in silence."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from device_agent.contract.optional import require

PACKAGES = ("tensorflow-cpu", "tensorflow", "keras", "numpy", "scikit-learn")


def load_keras() -> Any:
    """The keras module, with TensorFlow under it; takes some seconds the first time.

    Raises:
        MissingPackage: the `toolkit` extra is not installed.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    with muted():
        require("tensorflow", extra="toolkit")
        keras = require("keras", extra="toolkit")
    keras.config.disable_interactive_logging()  # it speaks on stdout, where the data goes
    return keras


@contextmanager
def muted() -> Iterator[None]:
    """Nothing that native code writes to stderr in this block is seen: the libraries greet before logging is set up."""
    kept = os.dup(2)
    try:
        with tempfile.TemporaryFile() as sink:
            os.dup2(sink.fileno(), 2)
            yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def package_versions() -> dict[str, str]:
    """Versions of the installed packages that decide what a training gives."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
