"""The shared scheme: on trained networks, the same integers in every runtime."""

from __future__ import annotations

import importlib.util
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from converters import shared
from converters.asking import ask_onnx
from converters.identity import without_hard_activations
from converters.keras_export import Export
from converters.layers import limits
from converters.parity import answers
from converters.scheme import differences
from converters.shared.graph import Unsupported, image_range
from converters.shared.units import restore
from converters.tflite import float_twin
from converters.tflite_file import read_graph
from device_agent.contract.errors import BadInput
from device_agent.contract.manifest import InputSpec

pytestmark = pytest.mark.slow
Make = Callable[[str], Export]


def _tiny_models() -> ModuleType:
    spec = importlib.util.spec_from_file_location("tiny_models", Path(__file__).parents[1] / "tiny_models.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Make:
    tiny_models = _tiny_models()

    def once(family: str) -> Export:
        images = tiny_models.textures(96, seed=2)[0]
        return Export(tiny_models.tiny(family), tiny_models.SPEC, images, tmp_path_factory.mktemp(family))

    return cache(once)


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.asarray(_tiny_models().textures(300, seed=5)[0])


@pytest.mark.parametrize("family", ["mobilenet-v1", "mobilenet-v2", "mobilenet-v3-small"])
def test_onnx_runtime_answers_as_litert_in_every_logit(
    family: str, make: Make, images: np.ndarray, tmp_path: Path
) -> None:
    export = make(family)
    assert export.logits(images[:50]).std(axis=0).min() > 0.1, "the outputs spread"
    (file,) = shared.write("onnx", export, tmp_path)
    assert differences("onnx", file, export, images) == [300 * 3]


@pytest.mark.parametrize("family", ["mobilenet-v1", "mobilenet-v2"])
def test_openvino_hardly_ever_differs_by_one_step(family: str, make: Make, images: np.ndarray, tmp_path: Path) -> None:
    export = make(family)
    found = differences("openvino", shared.write("openvino", export, tmp_path)[0], export, images)
    assert len(found) <= 2 and found[0] >= 0.99 * sum(found), "the mean's and the logits' scales are no powers of two"


def test_activations_that_are_multiplied_may_differ_in_openvino(make: Make, images: np.ndarray, tmp_path: Path) -> None:
    export = make("mobilenet-v3-small")
    found = differences("openvino", shared.write("openvino", export, tmp_path)[0], export, images)
    assert sum(found[:3]) == sum(found) and found[0] > 0.9 * sum(found)


def test_scales_between_convolutions_are_powers_of_two(make: Make) -> None:
    graph = read_graph(shared.source(make("mobilenet-v2")))
    scales = [float(graph.tensors[each.outputs[0]].scale[0]) for each in graph.operators if "CONV" in each.kind]
    assert len(scales) > 30
    assert all(np.frexp(scale)[0] == 0.5 for scale in scales)
    for operator in graph.operators:
        if operator.kind == "ADD":
            assert len({float(graph.tensors[each].scale[0]) for each in (*operator.inputs, *operator.outputs)}) == 1


def _joined(kind: str) -> Any:
    """A small network in which a tensor passes through `kind`."""
    import keras
    from keras import layers

    keras.utils.set_random_seed(3)
    image = keras.Input((24, 24, 3))

    def conv(value: Any, filters: int = 8, size: int = 3) -> Any:
        return layers.Conv2D(filters, size, padding="same", kernel_initializer="he_normal")(value)

    first = layers.ReLU(6.0)(conv(image))
    if kind == "mean and map":
        joined = layers.Add()([first, layers.GlobalAveragePooling2D(keepdims=True)(first)])
    elif kind == "vector and map":
        mean = layers.Dense(8, activation="sigmoid")(layers.GlobalAveragePooling2D()(first))
        joined = layers.Multiply()([first, layers.Reshape((1, 1, 8))(mean)])
    elif kind == "two branches":
        joined = layers.Concatenate()([layers.ReLU(6.0)(conv(first, 4)), conv(first, 4, 5)])
    elif kind == "largest":
        return keras.Model(image, layers.Dense(4)(layers.GlobalMaxPooling2D()(conv(first))))
    else:
        layer = {"maximum": layers.MaxPool2D(4), "average": layers.AveragePooling2D(3, 2, padding="same"),
                 "border": layers.ZeroPadding2D(((0, 1), (0, 1)))}[kind]  # fmt: skip
        joined = layer(conv(first))
    return keras.Model(image, layers.Dense(4)(layers.GlobalAveragePooling2D()(layers.ReLU(6.0)(conv(joined)))))


@pytest.mark.parametrize(
    "kind", ["maximum", "average", "border", "mean and map", "vector and map", "two branches", "largest"]
)
def test_what_passes_a_tensor_on_keeps_its_codes(kind: str, tmp_path: Path) -> None:
    """Both sides of a pooling, a border or a join have one scale and zero point; a vector meets a map by channels."""
    spec = InputSpec(height=24, width=24)
    rng = np.random.default_rng(1)
    pictures = rng.integers(0, 256, (40, 6, 6, 3)).repeat(4, 1).repeat(4, 2).astype(np.uint8)
    export = Export(_joined(kind), spec, pictures, tmp_path)
    got, wanted = answers("litert", shared.source(export), spec, pictures), export.logits(pictures)
    spread = (wanted - wanted.mean(axis=1, keepdims=True)).std()
    assert np.abs(got - wanted).mean() < 0.03 * spread
    for runtime in ("onnx", "openvino"):
        (tmp_path / runtime).mkdir()
        try:
            (file, *_) = shared.write(runtime, export, tmp_path / runtime)
        except Unsupported:
            assert kind in ("two branches", "largest"), "the translations have no operator for these"
            continue
        found = differences(runtime, file, export, pictures)
        assert len(found) <= 2 and found[0] > 0.8 * sum(found), found


def test_a_gate_has_all_its_codes(make: Make, tmp_path: Path) -> None:
    """relu6(x + 3) goes from 0 to 6: TensorFlow's converter gave it the range of x + 3."""
    export = make("mobilenet-v3-small")
    graph = read_graph(shared.source(export))
    gates = [each for each in graph.operators if each.kind == "ADD" and graph.tensors[each.inputs[1]].data is not None]
    assert len(gates) > 10
    for each in gates:
        assert limits(graph.tensors[each.outputs[0]]) == pytest.approx((0, 6))
    (tmp_path / "onnx").mkdir()
    (file,) = shared.write("onnx", export, tmp_path / "onnx")
    assert not {"Add", "Mul", "Clip", "HardSwish", "HardSigmoid"} & set(ask_onnx(file).floats)


def test_a_channel_that_is_all_bias_keeps_it(tmp_path: Path) -> None:
    """A dead channel after its normalisation was folded into it: no weights to speak of, and an offset."""
    import keras

    keras.utils.set_random_seed(3)
    image = keras.Input((8, 8, 3))
    dead = keras.layers.Conv2D(4, 3, padding="same", name="dead")
    pooled = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(6, 1)(keras.layers.ReLU(6.0)(dead(image))))
    model = keras.Model(image, keras.layers.Dense(3)(pooled))
    kernel = dead.get_weights()[0]
    kernel[..., 1] = 1e-12
    kernel[..., 2] = 0
    dead.set_weights([kernel, np.array([0.1, 5.0, 3.0, -0.1], np.float32)])
    pictures = np.random.default_rng(0).integers(0, 256, (48, 8, 8, 3), np.uint8)
    export = Export(model, InputSpec(height=8, width=8), pictures, tmp_path)
    got, wanted = answers("litert", shared.source(export), export.spec, pictures), export.logits(pictures)
    assert np.abs(got - wanted).max() < 0.1 * np.ptp(wanted)
    graph = read_graph(shared.source(export))
    values = graph.tensors[graph.operators[0].inputs[2]].values()
    np.testing.assert_allclose(values[1] / values[2], 5 / 3, rtol=1e-3)


@pytest.mark.parametrize(
    ("scale", "offset", "exact"), [(1 / 127.5, -1.0, True), (1 / 255, 0.0, True), (1.0, 0.0, True), (0.02, -2.1, False)]
)
def test_an_image_loses_nothing_on_its_way_in(scale: float, offset: float, exact: bool, tmp_path: Path) -> None:
    """A network that gives back the means of its image's channels: what is lost is lost at its two ends."""
    import keras

    keras.utils.set_random_seed(3)
    spec = InputSpec(height=8, width=8, scale=scale, offset=offset)
    image = keras.Input((8, 8, 3))
    first = keras.layers.Conv2D(3, 1)
    model = keras.Model(image, keras.layers.GlobalAveragePooling2D()(first(image)))
    first.set_weights([np.eye(3, dtype=np.float32)[None, None], np.array([0.1, -0.2, 0.3], np.float32)])
    pictures = np.repeat(np.arange(256, dtype=np.uint8), 8 * 8 * 3).reshape(256, 8, 8, 3)
    export = Export(model, spec, pictures, tmp_path)
    path = shared.source(export)
    graph = read_graph(path)
    assert image_range(graph, spec) == pytest.approx((offset, offset + 255 * scale)) or not exact
    got, wanted = answers("litert", path, spec, pictures), export.logits(pictures)
    step = float(graph.tensors[graph.outputs[0]].scale[0])
    assert np.abs(got - wanted).max() < (1.01 if exact else 2) * step
    for runtime in ("onnx", "openvino"):
        (tmp_path / runtime).mkdir()
        (file, *_) = shared.write(runtime, export, tmp_path / runtime)
        assert np.abs(answers(runtime, file, spec, pictures) - got).max() < 1.01 * step


def test_the_networks_own_units_come_back(make: Make, images: np.ndarray, tmp_path: Path) -> None:
    """With them a file gives the same answers, and its tensors hold what the float network's do."""
    export = make("mobilenet-v2")
    path = tmp_path / "model.tflite"
    path.write_bytes(shared.source(export).read_bytes())
    free, floats = read_graph(path), read_graph(float_twin(export))
    assert restore(path) and not restore(path)
    own = read_graph(path)
    for one, other in zip(free.tensors, own.tensors, strict=True):
        assert (one.data is None) or np.array_equal(one.data, other.data), "the integers stay"
    kernels = [[each for each in graph.operators if "CONV" in each.kind] for graph in (free, own, floats)]
    changed = 0
    for before, after, twin in zip(*kernels, strict=True):
        mine, true = own.tensors[after.inputs[1]].values(), floats.tensors[twin.inputs[1]].values()
        assert np.linalg.norm(mine - true) < 0.05 * np.linalg.norm(true)
        changed += not np.allclose(mine, free.tensors[before.inputs[1]].values(), rtol=1e-3)
        assert after.options["fusedActivationFunction"] == twin.options["fusedActivationFunction"]
    assert changed > 10
    one, other = (answers("litert", file, export.spec, images[:50]) for file in (shared.source(export), path))
    step = float(own.tensors[own.outputs[0]].scale[0])
    assert np.abs(one - other).max() <= 3 * step and (one.argmax(axis=1) == other.argmax(axis=1)).mean() > 0.9


def test_the_form_without_hard_activations_is_the_same_function(make: Make, images: np.ndarray) -> None:
    export = make("mobilenet-v3-small")
    assert export.integer is not export
    assert make("mobilenet-v2").integer is make("mobilenet-v2")
    before, after = export.logits(images[:64]), export.integer.logits(images[:64])
    assert before.std() > 0.5
    np.testing.assert_allclose(after, before, atol=1e-4)
    assert "HARD_SWISH" not in {each.kind for each in read_graph(shared.source(export)).operators}


def test_both_branches_of_a_sum_are_as_much_too_large() -> None:
    """MobileNetV3-Large adds the map behind its first hard activation to a normalised one."""
    import keras

    keras.utils.set_random_seed(3)
    image = keras.Input((8, 8, 3))
    hard = keras.layers.Activation("hard_silu")(keras.layers.Conv2D(4, 3, padding="same")(image))
    branch = keras.layers.BatchNormalization()(keras.layers.DepthwiseConv2D(3, padding="same")(hard))
    pooled = keras.layers.GlobalAveragePooling2D()(keras.layers.Add()([hard, branch]))
    model = keras.Model(image, keras.layers.Dense(3)(pooled))
    values = 3 * np.random.default_rng(0).normal(size=(20, 8, 8, 3)).astype(np.float32)
    before = np.asarray(model(values))
    assert before.std(axis=0).min() > 0.05
    np.testing.assert_allclose(np.asarray(without_hard_activations(model)(values)), before, atol=1e-5)


def test_what_follows_must_be_linear() -> None:
    import keras

    image = keras.Input((8, 8, 3))
    hard = keras.layers.Activation("hard_silu")(image)
    model: Any = keras.Model(image, keras.layers.GlobalAveragePooling2D()(keras.layers.LayerNormalization()(hard)))
    with pytest.raises(BadInput, match="LayerNormalization"):
        without_hard_activations(model)


def test_an_operator_that_cannot_be_shared_is_named(tmp_path: Path) -> None:
    import keras

    keras.utils.set_random_seed(3)
    image = keras.Input((8, 8, 3))
    features = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(4, 3, activation="tanh")(image))
    images = np.random.default_rng(0).integers(0, 256, (16, 8, 8, 3), np.uint8)
    export = Export(keras.Model(image, keras.layers.Dense(2)(features)), InputSpec(height=8, width=8), images, tmp_path)
    with pytest.raises(Unsupported, match="no TANH"):
        shared.write("onnx", export, tmp_path)


ON_A_PROCESSOR = """
import sys
from pathlib import Path
import numpy as np
from device_agent.contract.manifest import InputSpec
from device_agent.runtimes import logits, open_runtime, saturation

runtime, path, images, cpuinfo, answers = sys.argv[1:]
saturation.CPUINFO = Path(cpuinfo)
pictures = np.load(images)
model = open_runtime(runtime, Path(path), InputSpec(height=pictures.shape[1], width=pictures.shape[2]))
np.save(answers, [logits(model, image) for image in pictures])
"""


@pytest.mark.parametrize("runtime", ["onnx", "openvino"])
def test_without_vnni_the_answers_are_the_same(runtime: str, make: Make, images: np.ndarray, tmp_path: Path) -> None:
    """On an emulated processor with AVX2 and no VNNI; a runtime that is told it had VNNI saturates there."""
    qemu = shutil.which("qemu-x86_64-static")
    if qemu is None or platform.machine() != "x86_64":
        pytest.skip("qemu: no qemu-x86_64-static, or this machine is no x86-64")
    export = make("mobilenet-v2")
    file = shared.write(runtime, export, tmp_path)[0]
    np.save(tmp_path / "images.npy", images[:4])
    found = {}
    for name, flags in (("guarded", "sse4_1 avx avx2"), ("misled", "avx2 avx_vnni")):
        (tmp_path / "cpuinfo").write_text(f"flags\t\t: {flags}\n")
        arguments = [runtime, file, tmp_path / "images.npy", tmp_path / "cpuinfo", tmp_path / f"{name}.npy"]
        command = [qemu, "-cpu", "Haswell", sys.executable, "-c", ON_A_PROCESSOR, *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=280)
        assert done.returncode == 0, done.stderr[-2000:]
        found[name] = np.load(tmp_path / f"{name}.npy")
    expected = answers("litert", shared.source(export), export.spec, images[:4])
    graph = read_graph(shared.source(export))
    step = float(graph.tensors[graph.outputs[0]].scale[0])
    assert np.abs(found["guarded"] - expected).max() < 0.5 * step
    assert np.abs(found["misled"] - expected).max() > 2 * step, "the danger is real, so that the guard is needed"
