"""Every family, head and teacher learns a batch, survives the disk, and its float artifacts compute what Keras does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from converters import CONVERTERS
from converters.console import held_back
from converters.keras_export import Export, keras_logits
from device_agent.contract.manifest import InputSpec
from device_agent.runtimes import logits, open_runtime
from toolkit.models.architecture import Architecture
from toolkit.models.files import load_model, save_model
from toolkit.models.networks import build, settle_statistics

pytestmark = pytest.mark.slow
CLASSES, COUNT = 3, 24
NETWORKS = [
    Architecture(family="mobilenet-v1", alpha=0.25, size=49),
    Architecture(alpha=0.1, size=24, size_width=40),
    Architecture(family="mobilenet-v3-small", alpha=0.25, size=32, activation="silu"),
    Architecture(family="mobilenet-v3-large", alpha=0.2, size=33, minimalistic=True),
    Architecture(alpha=0.1, size=48, head="bilinear"),
    Architecture(alpha=0.1, size=64, head="attention"),
    Architecture(alpha=0.1, size=48, head="parts"),
    Architecture(family="resnet-50", size=32),
    Architecture(family="efficientnet-b0", size=40),
    Architecture(family="vit-tiny", size=32),
]


def _batch(spec: InputSpec) -> tuple[np.ndarray, np.ndarray]:
    """Images (24, h, w, 3) uint8 told apart by tint, and labels (24,)."""
    rng, labels = np.random.default_rng(0), np.arange(COUNT) % CLASSES
    tint = np.eye(3)[labels][:, None, None] * 60 + rng.uniform(60, 120, (COUNT, 1, 1, 3))
    return np.clip(tint + rng.normal(0, 40, (COUNT, spec.height, spec.width, 3)), 0, 255).astype(np.uint8), labels


def _trained(architecture: Architecture, **options: Any) -> tuple[Any, np.ndarray, list[float]]:
    import keras

    keras.utils.set_random_seed(0)
    model, spec = build(architecture, CLASSES, **options), architecture.input_spec()
    images, labels = _batch(spec)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-3), loss, run_eagerly=True)
    values = images.astype(np.float32) / 127.5 - 1
    losses = [float(model.train_on_batch(values, labels)) for _ in range(6)]
    settle_statistics(model, images, spec)
    return model, images, losses


def _openvino(export: Export, images: np.ndarray) -> np.ndarray:
    """Logits (n, classes) of the frozen graph in OpenVINO in float32; its artifact has fp16 weights."""
    ov = pytest.importorskip("openvino")
    path = export.scratch / "float.pb"
    path.write_bytes(export.frozen.graph.as_graph_def().SerializeToString())
    model = ov.compile_model(ov.convert_model(str(path)), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return np.concatenate([next(iter(model(image[None].astype(np.float32) / 127.5 - 1).values())) for image in images])


@pytest.mark.parametrize("architecture", NETWORKS, ids=lambda each: f"{each}, {each.head}")
def test_a_batch_is_learnt_and_float_artifacts_agree_with_keras(architecture: Architecture, tmp_path: Path) -> None:
    model, images, losses = _trained(architecture)
    assert min(losses[-2:]) < 0.9 * losses[0], losses
    export = Export(model, architecture.input_spec(), images[:4], tmp_path)
    wanted = export.logits(images)
    spread = float((wanted - wanted.mean(axis=1, keepdims=True)).std(axis=0).mean())
    assert spread > 0.01, "outputs that do not spread agree with anything"
    save_model(model, tmp_path / "model.keras")
    assert np.array_equal(keras_logits(load_model(tmp_path / "model.keras"), export.spec, images), wanted)
    found = {"openvino": _openvino(export, images)}
    for runtime in ("litert", "onnx"):
        (tmp_path / runtime).mkdir()
        with held_back():
            files = CONVERTERS.load(f"{runtime}-fp32")(export, tmp_path / runtime)
        opened = open_runtime(runtime, files[0], export.spec)
        found[runtime] = np.array([logits(opened, image) for image in images])
        opened.close()
    for runtime, got in found.items():
        assert np.abs(got - wanted).max() < 2e-4 * max(spread, np.abs(wanted).max()), runtime


def test_the_constant_zero_of_the_good_class_is_exact_in_every_int8_artifact(tmp_path: Path) -> None:
    architecture = Architecture(family="mobilenet-v3-small", alpha=0.25, size=32, activation="silu")
    model, images, _ = _trained(architecture, task="labels", good=1)
    export = Export(model, architecture.input_spec(), images, tmp_path)
    wanted = export.logits(images)
    assert np.array_equal(wanted[:, 1], np.zeros(COUNT)) and wanted[:, 0].std() > 0.05
    for runtime in ("litert", "onnx", "openvino"):
        (tmp_path / runtime).mkdir()
        with held_back():
            files = CONVERTERS.load(f"{runtime}-int8")(export, tmp_path / runtime)
        opened = open_runtime(runtime, files[0], export.spec)
        got = np.array([logits(opened, image) for image in images])
        opened.close()
        assert np.array_equal(got[:, 1], np.zeros(COUNT)), runtime
        assert np.abs(got - wanted).mean() < 0.2 * wanted[:, [0, 2]].std(), runtime
