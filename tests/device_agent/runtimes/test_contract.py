"""One suite over every runtime: the same tiny model in each format gives the same logits, and a bad file one sentence.

tests/data/models/tiny.* holds the mean of each colour times a (3, 2) matrix, plus a bias.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from device_agent.contract.errors import BadInput, LinesideError, MissingPackage, NotFound
from device_agent.contract.manifest import InputSpec
from device_agent.runtimes import RUNTIMES, logits, open_runtime

MODELS = Path(__file__).parents[2] / "data" / "models"
SPEC = InputSpec(height=8, width=8)
WEIGHTS = np.array([[1, -1], [2, 0.5], [-0.5, 1]])
BIAS = np.array([0.25, -0.25])
FILES = {
    "litert": "tiny.tflite",
    "tflite-runtime": "tiny.tflite",
    "onnx": "tiny.onnx",
    "openvino": "tiny.xml",
    "fake": "tiny.json",
}
PACKAGES = {
    "litert": "ai_edge_litert",
    "tflite-runtime": "ai_edge_litert",
    "onnx": "onnxruntime",
    "openvino": "openvino",
}
MODULES = {"litert": "ai_edge_litert.interpreter", "tflite-runtime": "tflite_runtime.interpreter"}
ON_CPU = sorted(PACKAGES)


def _need(name: str) -> None:
    if name in PACKAGES and importlib.util.find_spec(PACKAGES[name]) is None:
        pytest.skip(f"{PACKAGES[name]} is not installed")


@pytest.fixture(autouse=True)
def older_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """tflite-runtime has wheels for 32-bit Arm and numpy 1 only; its newer namesake stands in for it."""
    if importlib.util.find_spec("ai_edge_litert") is not None:
        stand_in = ModuleType("tflite_runtime.interpreter")
        stand_in.__dict__["Interpreter"] = importlib.import_module("ai_edge_litert.interpreter").Interpreter
        monkeypatch.setitem(sys.modules, "tflite_runtime", ModuleType("tflite_runtime"))
        monkeypatch.setitem(sys.modules, "tflite_runtime.interpreter", stand_in)


@pytest.fixture(params=[name for name in RUNTIMES.names() if name != "edgetpu"])
def name(request: pytest.FixtureRequest) -> str:
    _need(request.param)
    return request.param


@pytest.fixture
def images() -> np.ndarray:
    rng = np.random.default_rng(7)
    return (rng.integers(0, 256, (20, 1, 1, 3)) * rng.uniform(0, 1, (20, 8, 8, 1))).astype(np.uint8)


def expected(images: np.ndarray) -> np.ndarray:
    return (images.astype(np.float64) / 127.5 - 1).mean(axis=(1, 2)) @ WEIGHTS + BIAS


def test_logits_have_the_shape_and_type_of_the_protocol(name: str, images: np.ndarray) -> None:
    runtime = open_runtime(name, MODELS / FILES[name], SPEC)
    rows = np.array([logits(runtime, image) for image in images])
    assert runtime.name == name
    assert runtime.version
    assert runtime.classes == 2
    assert rows.shape == (20, 2)
    assert rows.dtype == np.float32
    assert rows.std(axis=0).min() > 0.05, "outputs must spread, else nothing is shown"
    assert np.array_equal(rows, [logits(runtime, image) for image in images]), "the same image, the same logits"
    runtime.close()


def test_logits_stay_when_the_next_image_comes(name: str, images: np.ndarray) -> None:
    runtime = open_runtime(name, MODELS / FILES[name], SPEC)
    first = logits(runtime, images[0])
    kept = first.copy()
    logits(runtime, images[1])
    assert np.array_equal(first, kept)


@pytest.mark.parametrize("name", ON_CPU)
@pytest.mark.parametrize("threads", [1, 2])
def test_float_model_computes_what_it_says(name: str, threads: int, images: np.ndarray) -> None:
    _need(name)
    runtime = open_runtime(name, MODELS / FILES[name], SPEC, threads=threads)
    rows = np.array([logits(runtime, image) for image in images])
    assert expected(images).std(axis=0).min() > 0.2
    np.testing.assert_allclose(rows, expected(images), atol=1e-5)


def test_int8_model_is_encoded_and_dequantized(images: np.ndarray) -> None:
    _need("litert")
    runtime = open_runtime("litert", MODELS / "tiny-int8.tflite", SPEC)
    assert runtime.encode(images[0]).dtype == np.int8
    rows = np.array([logits(runtime, image) for image in images])
    assert len(np.unique(rows)) > 10
    np.testing.assert_allclose(rows, expected(images), atol=0.08)


def test_a_failed_inference_is_one_sentence_and_no_foreign_exception(name: str, images: np.ndarray) -> None:
    runtime = open_runtime(name, MODELS / FILES[name], SPEC)
    tensor = runtime.encode(images[0])
    with pytest.raises(LinesideError, match=f"{name} failed in an inference: ") as failed:
        runtime.invoke(np.full(tensor.shape, "x"))
    assert "\n" not in str(failed.value)
    logits(runtime, images[0])
    runtime.close()
    if name != "fake":
        with pytest.raises(LinesideError, match=f"{name} failed in an inference: "):
            runtime.invoke(tensor)


def test_a_plugin_that_cannot_load_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*_: object, **__: object) -> None:
        raise OSError("libplugin.so.1: no such file\n  at dlopen")

    monkeypatch.setattr(RUNTIMES, "load", lambda _: load)
    with pytest.raises(BadInput, match=r"m\.plan: tensorrt cannot load it: libplugin\.so\.1: no such file$"):
        open_runtime("tensorrt", Path("m.plan"), SPEC)


def test_image_of_another_size_is_refused(name: str) -> None:
    runtime = open_runtime(name, MODELS / FILES[name], SPEC)
    with pytest.raises(BadInput, match=r"image must be uint8 \(8, 8, 3\), got uint8 \(9, 8, 3\)"):
        runtime.encode(np.zeros((9, 8, 3), np.uint8))
    with pytest.raises(BadInput, match="got float32"):
        runtime.encode(np.zeros((8, 8, 3), np.float32))


def _damage(kind: str, content: bytes) -> bytes:
    return {
        "empty": b"",
        "noise": np.random.default_rng(0).bytes(2000),
        "text": b"this is not a model\n" * 40,
        "cut": content[: len(content) // 2],
    }[kind]


@pytest.mark.parametrize("kind", ["empty", "noise", "text", "cut"])
@pytest.mark.parametrize("name", ON_CPU)
def test_corrupt_model_is_one_sentence_that_names_the_file(
    name: str, kind: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    _need(name)
    path = tmp_path / FILES[name]
    path.write_bytes(_damage(kind, (MODELS / FILES[name]).read_bytes()))
    path.with_suffix(".bin").write_bytes(b"\0" * 48)
    with pytest.raises(BadInput, match=path.name) as caught:
        open_runtime(name, path, SPEC)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_truncated_weights_are_refused(tmp_path: Path) -> None:
    _need("openvino")
    (tmp_path / "tiny.xml").write_bytes((MODELS / "tiny.xml").read_bytes())
    with pytest.raises(NotFound, match=r"tiny\.bin"):
        open_runtime("openvino", tmp_path / "tiny.xml", SPEC)
    (tmp_path / "tiny.bin").write_bytes(b"\0" * 20)
    with pytest.raises(BadInput, match=r"tiny\.xml"):
        open_runtime("openvino", tmp_path / "tiny.xml", SPEC)


@pytest.mark.parametrize("name", ON_CPU)
def test_model_for_another_size_is_refused(name: str) -> None:
    _need(name)
    with pytest.raises(
        BadInput, match=r"input must be \(1, 16, 8, 3\) or \(1, 3, 16, 8\), got \(1, (8, 8, 3|3, 8, 8)\)"
    ):
        open_runtime(name, MODELS / FILES[name], InputSpec(height=16, width=8))


def test_model_that_is_no_classifier_is_refused() -> None:
    _need("onnx")
    with pytest.raises(BadInput, match=r"output must be \(1, classes\).* got \(1, 3, 8, 8\)"):
        open_runtime("onnx", MODELS / "odd.onnx", SPEC)


@pytest.mark.parametrize("name", ON_CPU)
def test_missing_file_is_not_found(name: str, tmp_path: Path) -> None:
    _need(name)
    with pytest.raises(NotFound, match="no such model file"):
        open_runtime(name, tmp_path / "gone.tflite", SPEC)


@pytest.mark.parametrize("name", ON_CPU)
def test_runtime_that_is_not_installed_names_its_command(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, MODULES.get(name, PACKAGES[name]), None)
    with pytest.raises(MissingPackage, match=rf'pip install "lineside\[agent-{name}\]"'):
        open_runtime(name, MODELS / FILES[name], SPEC)


def test_nothing_is_printed_while_a_model_loads(
    name: str, capfd: pytest.CaptureFixture[str], images: np.ndarray
) -> None:
    logits(open_runtime(name, MODELS / FILES[name], SPEC), images[0])
    assert capfd.readouterr() == ("", "")


def test_unknown_runtime_lists_the_known() -> None:
    with pytest.raises(BadInput, match="known are edgetpu, fake, litert, onnx, openvino, tflite-runtime"):
        open_runtime("tensorrt", MODELS / "tiny.onnx", SPEC)


def test_fake_reads_its_number_of_classes(tmp_path: Path, images: np.ndarray) -> None:
    (tmp_path / "fake.json").write_text('{"classes": 5}')
    assert logits(open_runtime("fake", tmp_path / "fake.json", SPEC), images[0]).shape == (5,)
    (tmp_path / "fake.json").write_text('{"classes": 1}')
    with pytest.raises(BadInput, match=r"fake\.json"):
        open_runtime("fake", tmp_path / "fake.json", SPEC)


def test_tflite_runtime_names_the_numpy_that_it_cannot_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "tflite_runtime"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "interpreter.py").write_text("raise ImportError('numpy.core.multiarray failed to import')")
    for module in ("tflite_runtime", "tflite_runtime.interpreter"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(np, "__version__", "2.1.0")
    with pytest.raises(MissingPackage, match=r'needs numpy below 2, 2\.1\.0 is installed: pip install "numpy<2"'):
        open_runtime("tflite-runtime", MODELS / "tiny.tflite", SPEC)
    monkeypatch.setattr(np, "__version__", "1.26.4")
    with pytest.raises(MissingPackage, match=r'pip install "lineside\[agent-tflite-runtime\]"'):
        open_runtime("tflite-runtime", MODELS / "tiny.tflite", SPEC)


def test_fake_answers_wrong_and_fails_as_it_is_told(tmp_path: Path, images: np.ndarray) -> None:
    (tmp_path / "fake.json").write_text(f'{{"wrong_when": "{tmp_path}/wrong", "fail_when": "{tmp_path}/fail"}}')
    runtime = open_runtime("fake", tmp_path / "fake.json", SPEC)
    right = logits(runtime, images[0])
    (tmp_path / "wrong").touch()
    assert np.allclose(logits(runtime, images[0]), right + 1)
    (tmp_path / "fail").touch()
    with pytest.raises(LinesideError, match="fake failed in an inference: told to fail"):
        logits(runtime, images[0])
    with pytest.raises(BadInput, match="fake cannot load it: told to fail"):
        open_runtime("fake", tmp_path / "fake.json", SPEC)
