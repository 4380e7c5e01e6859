"""The Edge TPU without one: a package, a library and a device that stand in, and the sentence when one is missing."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from device_agent.contract.errors import BadInput, MissingPackage, Unreachable
from device_agent.contract.manifest import InputSpec
from device_agent.runtimes import edgetpu, logits, open_here, open_runtime

MODELS = Path(__file__).parents[2] / "data" / "models"
SPEC = InputSpec(height=8, width=8)


class Delegate:
    """What load_delegate gives; the interpreter that stands in takes it and computes on the CPU."""


@pytest.fixture
def packages(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Both packages stand in, with a device; the list tells which of them loaded the delegate, and then which ran."""
    real, said = pytest.importorskip("ai_edge_litert.interpreter"), list[str]()

    def stand_in(package: str) -> ModuleType:
        module = ModuleType(f"{package}.interpreter")

        def load_delegate(library: str) -> Delegate:
            said.append(f"{package} loads {library}")
            return Delegate()

        def interpreter(*, experimental_delegates: list[Delegate], **given: Any) -> Any:
            assert [type(one) for one in experimental_delegates] == [Delegate]
            said.append(f"{package} runs")
            return real.Interpreter(**given)

        module.__dict__.update(load_delegate=load_delegate, Interpreter=interpreter)
        return module

    for package in ("tflite_runtime", "ai_edge_litert"):
        monkeypatch.setitem(sys.modules, package, ModuleType(package))
        monkeypatch.setitem(sys.modules, f"{package}.interpreter", stand_in(package))
    monkeypatch.setattr(edgetpu, "LIBRARY", "libc.so.6")
    return said


@pytest.fixture
def compiled(tmp_path: Path) -> Path:
    """A file with the mark of edgetpu_compiler, which TensorFlow Lite passes over."""
    path = tmp_path / "model_edgetpu.tflite"
    path.write_bytes((MODELS / "tiny-int8.tflite").read_bytes() + edgetpu.COMPILED)
    return path


def test_the_delegate_takes_the_model_and_tflite_runtime_goes_first(packages: list[str], compiled: Path) -> None:
    runtime = open_here("edgetpu", compiled, SPEC)
    assert packages == ["tflite_runtime loads libc.so.6", "tflite_runtime runs"]
    images = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), np.uint8)
    rows = np.array([logits(runtime, image) for image in images])
    assert runtime.name == "edgetpu" and rows.shape == (4, 2) and np.ptp(rows, axis=0).min() > 0
    runtime.close()


def test_without_tflite_runtime_the_other_package_serves(
    packages: list[str], compiled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tflite_runtime.interpreter", None)
    open_here("edgetpu", compiled, SPEC)
    assert packages[-1] == "ai_edge_litert runs"
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    with pytest.raises(MissingPackage, match=r'needs tflite_runtime or ai_edge_litert: pip install "lineside\[agent-'):
        open_here("edgetpu", compiled, SPEC)


def test_a_file_that_would_run_on_the_cpu_is_refused(packages: list[str]) -> None:
    path = MODELS / "tiny-int8.tflite"
    with pytest.raises(BadInput, match=r"tiny-int8\.tflite: is not compiled for the Edge TPU: run edgetpu_compiler"):
        open_here("edgetpu", path, SPEC)
    assert packages == []
    assert logits(open_here("edgetpu", path, SPEC, plain=True), np.zeros((8, 8, 3), np.uint8)).shape == (2,)


def test_a_missing_device_says_what_to_plug_in(
    packages: list[str], compiled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load_delegate(library: str) -> None:
        raise ValueError(f"Failed to load delegate from {library}\n")

    module = importlib.import_module("tflite_runtime.interpreter")
    monkeypatch.setitem(module.__dict__, "load_delegate", load_delegate)
    with pytest.raises(Unreachable, match="edgetpu: no Edge TPU answers: plug it in") as failed:
        open_here("edgetpu", compiled, SPEC)
    assert "\n" not in str(failed.value)


def test_a_missing_library_says_what_to_install_and_does_so_through_the_fence(
    compiled: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("ai_edge_litert")
    monkeypatch.setattr(edgetpu, "LIBRARY", "libedgetpu.so.none")
    said = r"^edgetpu: libedgetpu\.so\.(none|1): .*No such file.*; apt install libedgetpu1-std"
    with pytest.raises(MissingPackage, match=said):
        open_here("edgetpu", compiled, SPEC)
    if not list(Path("/usr/lib").rglob("libedgetpu.so.1")):
        with pytest.raises(MissingPackage, match=said):
            open_runtime("edgetpu", compiled, SPEC)
    assert capfd.readouterr() == ("", "")
