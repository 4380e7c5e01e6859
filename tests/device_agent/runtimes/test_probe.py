"""The probe finds what works, and survives what does not."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from device_agent.contract.errors import NotWritable
from device_agent.runtimes import RUNTIMES, probe, tiny
from device_agent.runtimes.probe import Probed, probe_runtimes

MAKE = Path(__file__).with_name("make_tiny.py")
LIBRARY = """
#include <stdint.h>
#include <unistd.h>
typedef struct Delegate {
  void *data; int (*prepare)(void *, struct Delegate *); void *from, *to, *release; int64_t flags; void *opaque;
} Delegate;
static int prepare(void *context, Delegate *delegate) { %s; return 0; }
static Delegate delegate = {0, prepare};
void *tflite_plugin_create_delegate(char **keys, char **values, unsigned long count, void (*report)(const char *)) {
  return %s;
}
void tflite_plugin_destroy_delegate(void *gone) {}
"""


def test_every_runtime_is_probed_and_none_that_is_installed_is_broken() -> None:
    found = {one.name: one for one in probe_runtimes()}
    assert sorted(found) == RUNTIMES.names()
    packages = {"litert": "ai_edge_litert", "onnx": "onnxruntime", "openvino": "openvino", "fake": "numpy"}
    for name, package in packages.items():
        assert found[name].works is (find_spec(package) is not None), found[name]
        assert bool(found[name].version) is found[name].works and found[name].text and found[name].seconds > 0
    if find_spec("tflite_runtime") is None:
        assert "pip install" in found["tflite-runtime"].text and not found["tflite-runtime"].works


@pytest.mark.parametrize(
    ("prepare", "made", "works", "said"),
    [
        ("", "&delegate", True, "works"),
        ("", "0", False, "no Edge TPU answers: plug it in"),
        ("*(volatile int *)0 = 1", "&delegate", False, r"edgetpu ended by SIGSEGV"),
        ("for (;;) sleep(1)", "&delegate", False, "edgetpu did not load the model and answer within 3 s"),
    ],
    ids=["works", "no device", "crashes", "hangs"],
)
def test_an_accelerator_is_tried_through_the_interface_of_delegates(
    prepare: str, made: str, works: bool, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ai_edge_litert")
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("system: cc not found")
    (tmp_path / "delegate.c").write_text(LIBRARY % (prepare, made))
    command = [compiler, "-shared", "-fPIC", "-o", str(tmp_path / "libedgetpu.so.1"), str(tmp_path / "delegate.c")]
    subprocess.run(command, check=True)
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
    (found,) = probe_runtimes(["edgetpu"], limit_s=3.0)
    assert found.works is works
    assert found.text == said if works else said in found.text


def test_wrong_answers_are_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime")
    monkeypatch.setattr(tiny, "LOGITS", {0: (-2.25, 5.0)})
    (found,) = probe_runtimes(["onnx"])
    assert not found.works and "gives wrong answers: [-2.25, -0.75] where [-2.25, 5.0] is right" in found.text


def test_a_plugin_is_named_and_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    (found,) = probe_runtimes(["tensorrt"])
    assert found == Probed(name="tensorrt", works=False, text="a plugin, for which there is no model to try it with")


def test_a_disk_without_room_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(**_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tempfile, "TemporaryDirectory", full)
    with pytest.raises(NotWritable, match="no temporary folder to try runtimes in: no space left on device"):
        probe_runtimes(["fake"])


def test_the_models_are_what_their_script_makes(tmp_path: Path) -> None:
    for package in ("ai_edge_litert", "flatbuffers", "onnx"):
        pytest.importorskip(package)
    spec = importlib.util.spec_from_file_location("make_tiny", MAKE)
    assert spec is not None and spec.loader is not None
    made: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    tiny.write(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == made.files()
    assert set(os.listdir(tmp_path)) >= {probe._FILES[name] for name in RUNTIMES.names() if name != "fake"}  # noqa: PTH208
