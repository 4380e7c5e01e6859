"""Benchmarks are scripts; here they are loaded as modules."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def script(request: Any, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The run.py of the benchmark that the test module names in BENCHMARK."""
    folder = BENCHMARKS / request.module.BENCHMARK
    monkeypatch.setattr(sys, "path", [str(folder), *sys.path])
    spec = importlib.util.spec_from_file_location(f"{folder.name}_run", folder / "run.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
