"""No runtime and no converter looks up a host, connects to one, or leaves files of its telemetry."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
SPY = """
import os, socket

def tell(name, call):
    def told(*arguments, **named):
        with open(os.environ["CALLS"], "a") as out:
            out.write(f"{name} {arguments[-2:]}\\n")
        return call(*arguments, **named)
    return told

socket.getaddrinfo = tell("look-up", socket.getaddrinfo)
socket.socket.connect = tell("connection", socket.socket.connect)
"""
LOAD = """
import sys
from pathlib import Path
import numpy as np
from device_agent.contract.manifest import InputSpec
from device_agent.runtimes import logits, open_runtime

runtime = open_runtime(sys.argv[1], Path(sys.argv[2]), InputSpec(height=8, width=8))
print(logits(runtime, np.zeros((8, 8, 3), np.uint8)).shape)
"""
CONVERT = """
import sys
from pathlib import Path
import keras
import numpy as np
from converters import CONVERTERS
from converters.keras_export import Export
from device_agent.contract.manifest import InputSpec

layers = keras.layers
hidden = layers.Conv2D(4, 3, activation="relu")(image := layers.Input((8, 8, 3)))
model = keras.Model(image, layers.Dense(2)(layers.GlobalAveragePooling2D()(hidden)))
images = np.random.default_rng(0).integers(0, 256, (8, 8, 8, 3), np.uint8)
folder = Path(sys.argv[1])
export = Export(model, InputSpec(height=8, width=8), images, folder)
print([CONVERTERS.load(name)(export, folder)[0].name for name in sys.argv[2:]])
"""


def spied(folder: Path, script: str, *arguments: str) -> tuple[str, list[str]]:
    """What the script printed last, and what it left or asked the network for, in a process of its own."""
    home, calls = folder / "home", folder / "calls"
    home.mkdir()
    (folder / "sitecustomize.py").write_text(SPY)
    clean = {
        name: value for name, value in os.environ.items() if name not in ("CI", "NNCF_CI", "ORT_DISABLE_TELEMETRY")
    }
    env = clean | {"HOME": str(home), "TMPDIR": str(home), "CALLS": str(calls), "PYTHONPATH": f"{folder}:{ROOT}"}
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    left = [str(path.relative_to(home)) for path in home.rglob("*")]
    return done.stdout.splitlines()[-1], left + (calls.read_text().splitlines() if calls.exists() else [])


@pytest.mark.parametrize(
    ("runtime", "package", "file"), [("openvino",) * 2 + ("tiny.xml",), ("onnx", "onnxruntime", "tiny.onnx")]
)
def test_loading_a_model_sends_and_leaves_nothing(runtime: str, package: str, file: str, tmp_path: Path) -> None:
    if find_spec(package) is None:
        pytest.skip(f"needs {package}")
    assert spied(tmp_path, LOAD, runtime, str(ROOT / "tests" / "data" / "models" / file)) == ("(2,)", [])


@pytest.mark.slow
def test_converting_sends_nothing_and_leaves_no_trace_of_telemetry(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    names = ("openvino-fp16", "openvino-int8", "onnx-int8")
    said, found = spied(tmp_path, CONVERT, str(tmp_path / "out"), *names)
    assert said == "['model.xml', 'model.xml', 'model.onnx']"
    assert [
        each for each in found if each.startswith(("look-up", "connection", "intel", ".ses", ".cache/Microsoft"))
    ] == []
