"""Test machinery for the whole tree: programs that tests start, and the account of skipped tests.

The plugins are loaded by path: `tests` is no package, and a folder of it on sys.path would hide the real ones.
"""

from __future__ import annotations

import importlib.util
import signal
import sys
from pathlib import Path
from types import ModuleType

import pytest

PLUGINS = ("fixtures_broker", "fixtures_browser", "fixtures_postgres", "fixtures_tflite", "skips")


def pytest_addoption(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    for name in PLUGINS:
        path = Path(__file__).with_name("tests") / f"{name}.py"
        if path.exists():
            pluginmanager.register(load(f"lineside_{name}", path), f"lineside-{name}")


def pytest_configure() -> None:
    """A job that runs in the background ignores Ctrl-C, and so would every program that a test starts."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def load(name: str, path: Path) -> ModuleType:
    """The module at `path` under a name of its own."""
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} cannot be loaded")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
