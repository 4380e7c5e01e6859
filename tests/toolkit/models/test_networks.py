"""MobileNets: named input and output, any width, weights that fit or one clear sentence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from device_agent.contract.errors import BadInput, NotFound
from toolkit.models.networks import BN_MOMENTUM, Architecture, build, load_model, predict, save_model, settle_statistics

pytestmark = pytest.mark.slow
BACKBONE = "keras/mobilenet_v2_1.0_224_tf2ptq_dequant_no_top.h5"


@pytest.mark.parametrize(
    "architecture",
    [
        Architecture(alpha=0.35, size=32),
        Architecture(family="mobilenet-v3-small", alpha=0.37, size=48, activation="silu"),
        Architecture(family="mobilenet-v3-large", alpha=0.25, size=32, minimalistic=True),
    ],
)
def test_named_ends_and_a_model_that_survives_the_disk(architecture: Architecture, tmp_path: Path) -> None:
    import keras

    keras.utils.set_random_seed(0)
    model = build(architecture, 4)
    assert [tensor.name for tensor in model.inputs] == ["image"]
    assert model.layers[-1].name == "logits" and model.output_shape == (None, 4)
    norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    assert {layer.momentum for layer in norms} == {BN_MOMENTUM}
    images = np.random.default_rng(0).integers(0, 256, (70, architecture.size, architecture.size, 3), np.uint8)
    assert predict(model, images, architecture.input_spec()).std(axis=0).max() < 1e-3, (
        "a fresh network answers all alike"
    )
    settle_statistics(model, images, architecture.input_spec())
    assert {layer.momentum for layer in norms} == {BN_MOMENTUM}
    logits = predict(model, images, architecture.input_spec())
    assert logits.shape == (70, 4) and logits.std(axis=0).min() > 0.01
    save_model(model, tmp_path / "model.keras")
    assert [path.name for path in tmp_path.iterdir()] == ["model.keras"]
    assert np.array_equal(predict(load_model(tmp_path / "model.keras"), images, architecture.input_spec()), logits)


def test_activation_is_swapped_everywhere() -> None:
    def names(activation: str | None) -> set[str]:
        model = build(Architecture(family="mobilenet-v3-small", alpha=0.25, size=32, activation=activation), 2)  # type: ignore[arg-type]
        return {layer.activation.__name__ for layer in model.layers if type(layer).__name__ == "Activation"}

    assert names(None) == {"hard_silu"}
    assert names("silu") == {"silu"}


def test_pretrained_weights_are_in_the_backbone(weights_dir: Path) -> None:
    architecture = Architecture(alpha=1.0, size=64)
    drawn, read = build(architecture, 3), build(architecture, 3, weights=str(weights_dir / BACKBONE))
    one, two = (model.get_layer("Conv1").get_weights()[0] for model in (drawn, read))
    assert one.shape == two.shape and not np.allclose(one, two)
    again = build(architecture, 3, weights=str(weights_dir / BACKBONE))
    assert np.array_equal(again.get_layer("Conv1").get_weights()[0], two)


@pytest.mark.parametrize(
    ("architecture", "file"),
    [
        (Architecture(alpha=0.5, size=64), BACKBONE),
        (Architecture(family="mobilenet-v3-small", alpha=1.0, size=64), BACKBONE),
        (Architecture(alpha=0.25, size=96), "keras/vww_96.h5"),
    ],
)
def test_weights_of_another_network(architecture: Architecture, file: str, weights_dir: Path) -> None:
    with pytest.raises(BadInput, match=rf"holds other layers; it must hold {architecture.family} at width"):
        build(architecture, 3, weights=str(weights_dir / file))


def test_weights_that_are_no_weights(tmp_path: Path) -> None:
    path = tmp_path / "weights.h5"
    path.write_text("hello")
    with pytest.raises(BadInput, match="is not an HDF5 file"):
        build(Architecture(size=32), 3, weights=str(path))
    with pytest.raises(NotFound, match="no such file of weights"):
        build(Architecture(size=32), 3, weights=str(tmp_path / "none.h5"))


def test_a_file_that_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "model.keras").write_bytes(b"PK nonsense")
    with pytest.raises(BadInput, match="cannot be read as a Keras model"):
        load_model(tmp_path / "model.keras")
