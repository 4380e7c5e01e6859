"""Where nothing is removed a cut network is the same bit for bit; where only zero channels are, it answers alike."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from device_agent.contract.errors import BadInput
from toolkit.compression.channels import Channels, tie
from toolkit.compression.cost import Bill
from toolkit.compression.graph import read_graph
from toolkit.compression.surgery import cut
from toolkit.models.architecture import Architecture

pytestmark = pytest.mark.slow
NETWORKS = {
    "v1": Architecture(family="mobilenet-v1", alpha=0.25, size=32),
    "v2": Architecture(family="mobilenet-v2", alpha=0.35, size=32),
    "v3": Architecture(family="mobilenet-v3-small", alpha=0.75, size=32),
    "v3-minimalistic": Architecture(family="mobilenet-v3-small", alpha=0.75, size=32, minimalistic=True),
}
CLASSES = 5


def _model(architecture: Architecture) -> Any:
    """A network whose logits spread: normalisations with drawn scales and the statistics of the images."""
    from toolkit.compression.statistics import settle
    from toolkit.framework import load_keras
    from toolkit.models.networks import build, normalizations

    load_keras().utils.set_random_seed(0)
    model, rng = build(architecture, CLASSES), np.random.default_rng(0)
    for layer in normalizations(model):
        width = layer.gamma.shape[0]
        layer.gamma.assign(rng.uniform(0.8, 1.6, width))
        layer.beta.assign(rng.normal(0, 0.4, width))
    settle(model, _pictures(architecture), architecture.input_spec())
    return model


def _pictures(architecture: Architecture) -> NDArray[np.uint8]:
    """Noise on a colour of each picture's own: (12, size, size, 3)."""
    rng, side = np.random.default_rng(1), architecture.size
    colours, noise = rng.uniform(40, 215, (12, 1, 1, 3)), rng.normal(0, 25, (12, side, side, 3))
    return np.clip(colours + noise, 0, 255).astype(np.uint8)


def _images(architecture: Architecture) -> NDArray[np.float32]:
    return (_pictures(architecture) / 127.5 - 1).astype(np.float32)


def _logits(model: Any, images: NDArray[np.float32]) -> NDArray[np.float32]:
    logits = np.asarray(model(images, training=False))
    assert logits.std(axis=0).min() > 1e-3 * np.abs(logits).max(), "the answers spread"
    return logits


@pytest.mark.parametrize("name", NETWORKS)
def test_nothing_removed_is_bit_exact(name: str) -> None:
    model, images = _model(NETWORKS[name]), _images(NETWORKS[name])
    same = cut(model, tie(read_graph(model)), {})
    assert np.array_equal(_logits(model, images), _logits(same, images))
    assert (
        same.layers[-1].name == "logits"
        and same.get_layer("pooled").output.shape == model.get_layer("pooled").output.shape
    )


def _silence(model: Any, channels: Channels, group: str, off: NDArray[np.int64]) -> None:
    """Let the channels `off` of a group be zero wherever they are read: their makers write nothing, and their
    normalisations leave nothing."""
    for name in (*channels.groups[group].makers, *channels.groups[group].along):
        layer = next(each for each in model.operations if each.name == name)
        weights = layer.get_weights() if getattr(layer, "weights", None) else []
        kind = type(layer).__name__
        for place, value in enumerate(weights):
            if kind == "BatchNormalization" and place >= 2:
                continue
            if kind == "DepthwiseConv2D" and value.ndim == 4:
                value[..., off, :] = 0
            else:
                value[..., off] = 0
        if weights:
            layer.set_weights(weights)


@pytest.mark.parametrize("name", NETWORKS)
def test_channels_that_are_zero_can_go(name: str) -> None:
    """A third of every group at once: expansion, residual stream, inside of gates. (A gate itself is not zero, and what
    it opens is.)"""
    model, images = _model(NETWORKS[name]), _images(NETWORKS[name])
    channels, rng = tie(read_graph(model)), np.random.default_rng(2)
    keep = {}
    for group in channels.cuttable():
        order = rng.permutation(group.width)
        off, keep[group.name] = np.sort(order[: group.width // 3]), np.sort(order[group.width // 3 :])
        _silence(model, channels, group.name, off)
    smaller = cut(model, channels, keep)
    before, after = _logits(model, images), _logits(smaller, images)
    assert np.allclose(before, after, rtol=1e-4, atol=1e-5 * np.abs(before).max())
    widths = channels.widths | {group: len(kept) for group, kept in keep.items()}
    assert smaller.count_params() == Bill(channels).cost(widths).parameters < 0.6 * model.count_params()


def test_a_smaller_model_is_saved_and_loaded(tmp_path: Any) -> None:
    from toolkit.models.files import load_model, save_model

    model, images = _model(NETWORKS["v3"]), _images(NETWORKS["v3"])
    channels = tie(read_graph(model))
    smaller = cut(model, channels, {group.name: np.arange(group.width // 2) for group in channels.cuttable()})
    save_model(smaller, tmp_path / "model.keras")
    loaded = load_model(tmp_path / "model.keras")
    assert np.array_equal(np.asarray(smaller(images)), np.asarray(loaded(images)))
    halved = channels.widths | {group.name: group.width // 2 for group in channels.cuttable()}
    assert tie(read_graph(loaded)).widths == halved


@pytest.mark.parametrize(
    ("architecture", "kinds"),
    [
        (Architecture(family="resnet-50", size=32), {"expansion", "residual", "fixed"}),
        (Architecture(family="efficientnet-b0", size=32), {"expansion", "residual", "squeeze-excite", "fixed"}),
        (Architecture(family="mobilenet-v2", size=64, head="parts"), {"expansion", "residual", "fixed"}),
    ],
    ids=["resnet-50", "efficientnet-b0", "parts"],
)
def test_other_networks_can_be_followed(architecture: Architecture, kinds: set[str]) -> None:
    from toolkit.models.networks import build

    model = build(architecture, CLASSES)
    channels = tie(read_graph(model))
    assert {group.kind for group in channels.groups.values()} == kinds
    assert Bill(channels).cost(channels.widths).parameters == model.count_params()
    smaller = cut(model, channels, {group.name: np.arange(group.width // 2) for group in channels.cuttable()})
    assert smaller.output_shape == (None, CLASSES)


def test_what_cannot_be_followed_is_named() -> None:
    from toolkit.framework import load_keras
    from toolkit.models.networks import build

    with pytest.raises(BadInput, match=r"layer 'tokens' \(Reshape\) cannot be pruned around: it moves positions"):
        read_graph(build(Architecture(family="vit-tiny", size=32), CLASSES))
    keras = load_keras()
    image = keras.Input((8, 8, 3))
    conv = keras.layers.Conv2D(4, 1, name="conv")
    joined = keras.layers.Concatenate(name="joined")([conv(image), image])
    with pytest.raises(BadInput, match=r"layer 'joined' \(Concatenate\)"):
        read_graph(keras.Model(image, joined))
    twice = keras.layers.Conv2D(3, 1, name="twice")
    with pytest.raises(BadInput, match="layer 'twice' is used twice"):
        read_graph(keras.Model(image, twice(twice(image))))


def test_weights_that_are_no_numbers_are_refused() -> None:
    model = _model(NETWORKS["v1"])
    kernel = model.get_layer("logits").kernel
    kernel.assign(kernel * np.nan)
    with pytest.raises(BadInput, match="layer 'logits' has weights that are not finite"):
        read_graph(model)
