"""Families and heads: named ends, any size, a start where it should be, and a model that survives the disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from device_agent.contract.errors import BadInput
from toolkit.models.answers import predict
from toolkit.models.architecture import HEADS, Architecture
from toolkit.models.backbones import make_backbone
from toolkit.models.files import load_model, save_model
from toolkit.models.networks import BN_MOMENTUM, build, normalizations, settle_statistics

pytestmark = pytest.mark.slow
SMALL = Architecture(alpha=0.1, size=32)


@pytest.mark.parametrize(
    "architecture",
    [
        Architecture(family="mobilenet-v1", alpha=0.25, size=33),
        Architecture(alpha=0.35, size=32, head="bilinear"),
        Architecture(alpha=0.1, size=24, size_width=40, head="parts"),
        Architecture(family="mobilenet-v3-small", alpha=0.37, size=48, activation="silu", head="attention"),
        Architecture(family="mobilenet-v3-large", alpha=0.25, size=32, minimalistic=True),
    ],
    ids=str,
)
def test_named_ends_answers_that_spread_and_a_model_that_survives_the_disk(
    architecture: Architecture, tmp_path: Path
) -> None:
    import keras

    keras.utils.set_random_seed(0)
    model, spec = build(architecture, 4), architecture.input_spec()
    assert [tensor.name for tensor in model.inputs] == ["image"]
    assert model.layers[-1].name == "logits" and model.output_shape == (None, 4)
    assert model.get_layer("logits").input is model.get_layer("pooled").output
    norms = normalizations(model)
    assert {layer.momentum for layer in norms} == {BN_MOMENTUM}
    images = np.random.default_rng(0).integers(0, 256, (70, spec.height, spec.width, 3), np.uint8)
    settle_statistics(model, images, spec)
    assert {layer.momentum for layer in norms} == {BN_MOMENTUM}
    logits = predict(model, images, spec)
    assert logits.shape == (70, 4) and logits.std(axis=0).min() > 0.003
    save_model(model, tmp_path / "model.keras")
    assert [path.name for path in tmp_path.iterdir()] == ["model.keras"]
    assert np.array_equal(predict(load_model(tmp_path / "model.keras"), images, spec), logits)


@pytest.mark.parametrize("family", ["mobilenet-v1", "mobilenet-v2", "mobilenet-v3-small", "mobilenet-v3-large"])
def test_no_stride_drops_the_edge_of_an_odd_map(family: str) -> None:
    maps = make_backbone(Architecture(family=family, alpha=0.1, size=49, size_width=33)).output
    assert maps.shape[1:3] == (2, 2)  # rounded up five times: 49, 25, 13, 7, 4, 2


def test_activation_is_swapped_everywhere() -> None:
    def names(activation: str | None) -> set[str]:
        model = build(Architecture(family="mobilenet-v3-small", alpha=0.25, size=32, activation=activation), 2)  # type: ignore[arg-type]
        return {layer.activation.__name__ for layer in model.layers if type(layer).__name__ == "Activation"}

    assert names(None) == {"hard_silu"}
    assert names("silu") == {"silu"}


def test_residual_branches_start_at_zero_and_nothing_else_does() -> None:
    for family, blocks in (("mobilenet-v2", 10), ("resnet-50", 16), ("efficientnet-b0", 9)):
        norms = normalizations(build(Architecture(family=family, alpha=0.35, size=32), 2))
        silent = [layer.name for layer in norms if not np.any(layer.gamma)]
        assert len(silent) == blocks, silent
        assert all(name.endswith(("project_BN", "_3_bn", "project_bn")) for name in silent)


def test_teachers_see_what_their_weights_were_trained_on() -> None:
    """Preprocessing inside the model against that of Keras, by hand from bytes."""
    keras = pytest.importorskip("keras")
    pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype(np.float32)
    image = pixels / 127.5 - 1
    resnet = make_backbone(Architecture(family="resnet-50", size=32))
    seen = keras.Model(resnet.inputs[0], resnet.get_layer("bgr").output)(image)
    wanted = keras.applications.resnet.preprocess_input(pixels.copy())
    np.testing.assert_allclose(np.asarray(seen), wanted, atol=1e-3)
    efficient = make_backbone(Architecture(family="efficientnet-b0", size=32))
    first = next(layer for layer in efficient.layers if type(layer).__name__ == "Rescaling")
    mean, spread = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    wanted = (pixels / 255 - mean) / spread / np.sqrt(spread)  # as Keras' own imagenet model computes it
    np.testing.assert_allclose(np.asarray(first(image)), wanted, atol=1e-4)


def test_attention_starts_as_the_plain_mean_and_then_moves_to_where_the_score_is() -> None:
    from toolkit.models.layers import AttentionPooling

    maps = np.random.default_rng(0).normal(size=(2, 3, 4, 5)).astype(np.float32)
    layer = AttentionPooling()
    np.testing.assert_allclose(np.asarray(layer(maps)), maps.mean(axis=(1, 2)), atol=1e-6)
    layer.set_weights([np.array([[1000.0], [0], [0], [0], [0]], np.float32)])
    flat = maps.reshape(2, 12, 5)
    best = flat[np.arange(2), flat[:, :, 0].argmax(axis=1)]
    np.testing.assert_allclose(np.asarray(layer(maps)), best, atol=0.05)


def test_each_part_has_its_own_place_and_bilinear_pooling_is_what_its_formula_says() -> None:
    from toolkit.models.layers import BilinearPooling, PartPooling

    maps = np.random.default_rng(1).normal(size=(2, 3, 4, 5)).astype(np.float32)
    flat = maps.reshape(2, 12, 5).astype(np.float64)
    parts = PartPooling(2)
    found = np.asarray(parts(maps))
    scores = np.exp(flat @ parts.get_weights()[0])
    weights = scores / scores.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(found, np.einsum("npk,npf->nkf", weights, flat).reshape(2, 10), atol=1e-5)
    assert np.abs(found[:, :5] - found[:, 5:]).max() > 0.05
    bilinear = BilinearPooling(3)
    found = np.asarray(bilinear(maps))
    projected = flat @ bilinear.get_weights()[0]
    pairs = np.einsum("npa,npb->nab", projected, projected).reshape(2, 9) / 12
    rooted = np.sign(pairs) * np.sqrt(np.abs(pairs))
    np.testing.assert_allclose(found, rooted / np.linalg.norm(rooted, axis=1, keepdims=True), atol=0.02)


@pytest.mark.parametrize("head", HEADS)
def test_the_good_class_of_marks_stays_at_zero_through_training(head: str, tmp_path: Path) -> None:
    import keras

    keras.utils.set_random_seed(0)
    architecture = Architecture(alpha=0.1, size=40, head=head)  # type: ignore[arg-type]
    model = build(architecture, 4, task="labels", good=1)
    images = np.random.default_rng(0).integers(0, 256, (8, 40, 40, 3), np.uint8)
    settle_statistics(model, images, architecture.input_spec())
    before = model.get_layer("logits").get_weights()
    targets = np.tile(np.float32([1, 1, 0, 0]), (8, 1))  # a loss that pulls on every column, the constant one too
    model.compile(keras.optimizers.Adam(0.01), keras.losses.BinaryCrossentropy(from_logits=True), run_eagerly=True)
    for _ in range(2):
        model.train_on_batch(images.astype(np.float32) / 127.5 - 1, targets)
    save_model(model, tmp_path / "m.keras")
    after = load_model(tmp_path / "m.keras").get_layer("logits").get_weights()
    for old, new in zip(before, after, strict=True):
        assert not np.any(old[..., 1]) and not np.any(new[..., 1])
        moved = np.abs(new - old).reshape(-1, 4).max(axis=0)
        assert (moved[[0, 2, 3]] > 1e-4).all()
    logits = predict(load_model(tmp_path / "m.keras"), images, architecture.input_spec())
    assert np.array_equal(logits[:, 1], np.zeros(8, np.float32)) and logits[:, 0].std() > 0


def test_a_head_that_weighs_positions_needs_more_than_one() -> None:
    with pytest.raises(BadInput, match="head parts: mobilenet-v2 at 32 px ends in one position; take --size 48"):
        build(Architecture(alpha=0.1, size=32, head="parts"), 2)
    with pytest.raises(BadInput, match="task labels: needs the number of the one good class, 0 to 2, got None"):
        build(SMALL, 3, task="labels")
