"""Weights from every format of Keras, old and new; what does not fit is one sentence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from device_agent.contract.errors import BadInput, NotFound
from toolkit.models.architecture import Architecture
from toolkit.models.files import save_model
from toolkit.models.networks import build

pytestmark = pytest.mark.slow
V2 = "keras/mobilenet_v2_1.0_224_tf2ptq_dequant_no_top.h5"
SMALL = Architecture(alpha=0.1, size=32)


def _features(model: Any, images: np.ndarray) -> np.ndarray:
    import keras

    trunk = keras.Model(model.inputs[0], model.get_layer("pooled").output)
    return np.asarray(trunk(images, training=False))


def _images(size: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(-1, 1, (3, size, size, 3)).astype(np.float32)


@pytest.mark.parametrize(
    ("make", "architecture", "file"),
    [
        ("MobileNet", Architecture(family="mobilenet-v1", alpha=0.25, size=64), "keras/mobilenet_2_5_224_tf_no_top.h5"),
        ("MobileNet", Architecture(family="mobilenet-v1", alpha=0.5, size=64),
         "keras/mobilenet_v1_0.5_160_dequant_no_top.h5"),
        ("MobileNetV2", Architecture(alpha=1.0, size=64), V2),
    ],
)  # fmt: skip
def test_public_weights_give_the_features_of_keras_own_model(
    make: str, architecture: Architecture, file: str, weights_dir: Path
) -> None:
    import keras

    size, images = architecture.size, _images(architecture.size)
    theirs = getattr(keras.applications, make)(
        input_shape=(size, size, 3),
        alpha=architecture.alpha,
        include_top=False,
        weights=weights_dir / file,
        pooling="avg",
    )
    wanted = np.asarray(theirs(images, training=False))
    assert wanted.std() > 0.1
    found = _features(build(architecture, 3, weights=str(weights_dir / file)), images)
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_a_legacy_model_that_keras_refuses_gives_its_weights(weights_dir: Path) -> None:
    """Its biases, which MobileNetV1 has not, end up in the means of the normalisations: the network of its own
    configuration gives the same features, once the entry that Keras 3 refuses is out, and its relu is the relu6 of
    MobileNetV1."""
    import h5py
    import keras

    path = weights_dir / "keras/vww_96.h5"
    with pytest.raises((ValueError, TypeError)):
        keras.models.load_model(path, compile=False)
    with h5py.File(path) as file:
        config = json.loads(file.attrs["model_config"])
        biases = [np.asarray(file["model_weights"][name][name]["bias:0"]) for name in ("conv2d", "conv2d_5")]
    assert all(np.abs(each).max() > 1e-3 for each in biases)
    for layer in config["config"]["layers"]:
        layer["config"].pop("groups", None)
        if layer["class_name"] == "Activation" and layer["config"]["activation"] == "relu":
            layer["config"]["activation"] = "relu6"
    theirs = keras.Model.from_config(config["config"])
    theirs.load_weights(path)
    features = next(layer.output for layer in reversed(theirs.layers) if len(layer.output.shape) == 4)
    pooled = keras.layers.GlobalAveragePooling2D()(features)
    images = _images(96)
    found = _features(build(Architecture(family="mobilenet-v1", alpha=0.25), 3, weights=str(path)), images)
    wanted = np.asarray(keras.Model(theirs.inputs, pooled)(images, training=False))
    assert wanted.std() > 0.1
    np.testing.assert_allclose(found, wanted, atol=1e-4)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray]:
    """Files of one drawn network in each format, and its features."""
    import keras

    folder = tmp_path_factory.mktemp("weights")
    source = keras.applications.MobileNetV2(input_shape=(32, 32, 3), alpha=0.1, weights=None, classes=5)
    for layer in source.layers:
        if "BN" in layer.name:
            layer.set_weights([np.random.default_rng(1).uniform(0.5, 1, each.shape) for each in layer.get_weights()])
    bare = keras.Model(source.inputs, source.get_layer("out_relu").output)
    source.save_weights(folder / "top.weights.h5")
    bare.save_weights(folder / "bare.weights.h5")
    source.save(folder / "top.h5")
    source.save(folder / "top.keras")
    inner = keras.Input((32, 32, 3))
    nested = keras.Model(inner, keras.layers.Dense(2)(keras.layers.GlobalAveragePooling2D()(bare(inner))))
    nested.save(folder / "nested.keras")
    nested.save_weights(folder / "nested.weights.h5")
    pooled = keras.layers.GlobalAveragePooling2D()(bare.output)
    return folder, np.asarray(keras.Model(source.inputs, pooled)(_images(32), training=False))


@pytest.mark.parametrize(
    "name", ["top.weights.h5", "bare.weights.h5", "top.h5", "top.keras", "nested.keras", "nested.weights.h5"]
)
def test_every_format_with_a_top_or_without(name: str, trained: tuple[Path, np.ndarray]) -> None:
    folder, wanted = trained
    assert wanted.std() > 1e-3
    found = _features(build(SMALL, 3, weights=str(folder / name)), _images(32))
    np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-5)


def test_a_run_of_ones_own_gives_backbone_and_head(tmp_path: Path) -> None:
    architecture = Architecture(alpha=0.1, size=40, head="parts")
    model = build(architecture, 5)
    model.get_layer("pooled").set_weights([np.full((1280, 4), 0.5, np.float32)])
    save_model(model, tmp_path / "model.keras")
    again = build(architecture, 3, weights=str(tmp_path / "model.keras"))
    assert np.array_equal(again.get_layer("Conv1").get_weights()[0], model.get_layer("Conv1").get_weights()[0])
    assert np.array_equal(again.get_layer("pooled").get_weights()[0], model.get_layer("pooled").get_weights()[0])


@pytest.mark.parametrize(
    ("architecture", "file", "said"),
    [
        (Architecture(alpha=0.5, size=32), V2, r"layer Conv1 has weights 3x3x3x32 there, 3x3x3x16 here; it must hold "
         r"mobilenet-v2 at width 0\.5, with or without its top \(--model and --width"),
        (Architecture(family="mobilenet-v3-small", alpha=1.0, size=32), V2, "must hold mobilenet-v3-small at width 1"),
        (Architecture(family="mobilenet-v1", alpha=1.0, size=32), V2, "must hold mobilenet-v1 at width 1"),
        (Architecture(family="mobilenet-v1", alpha=0.5, size=32), "keras/vww_96.h5", "mobilenet-v1 at width 0.5"),
        (Architecture(alpha=0.25, size=32), "keras/vww_96.h5", "must hold mobilenet-v2 at width 0.25"),
        (Architecture(family="resnet-50", size=32), V2, "holds the layers of another network|has weights"),
    ],
)  # fmt: skip
def test_weights_of_another_network(architecture: Architecture, file: str, said: str, weights_dir: Path) -> None:
    with pytest.raises(BadInput, match=said) as caught:
        build(architecture, 3, weights=str(weights_dir / file))
    assert "\n" not in str(caught.value)


def test_weights_that_are_no_weights(tmp_path: Path, trained: tuple[Path, np.ndarray]) -> None:
    import h5py

    whole = (trained[0] / "top.h5").read_bytes()
    (tmp_path / "text.h5").write_text("hello")
    (tmp_path / "cut.h5").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "model.keras").write_bytes(b"PK\x03\x04 nonsense")
    h5py.File(tmp_path / "other.h5", "w").create_dataset("images", data=np.zeros(3))
    for name, said in {
        "text.h5": "is no file of Keras weights",
        "cut.h5": "is damaged",
        "model.keras": "cannot be read as a Keras model",
        "other.h5": "holds no weights of Keras layers",
    }.items():
        with pytest.raises(BadInput, match=said):
            build(SMALL, 3, weights=str(tmp_path / name))
    with pytest.raises(NotFound, match="no such file of weights"):
        build(SMALL, 3, weights=str(tmp_path / "none.h5"))


def test_weights_with_a_hole_in_them(tmp_path: Path, trained: tuple[Path, np.ndarray]) -> None:
    import h5py

    (tmp_path / "hole.h5").write_bytes((trained[0] / "top.h5").read_bytes())
    with h5py.File(tmp_path / "hole.h5", "r+") as file:
        kernels: list[Any] = []
        file["model_weights"]["block_3_expand"].visititems(
            lambda name, each: kernels.append(each) if isinstance(each, h5py.Dataset) else None
        )
        kernels[0][0, 0, 0, 0] = np.nan
    with pytest.raises(BadInput, match="weights of layer block_3_expand are not finite"):
        build(SMALL, 3, weights=str(tmp_path / "hole.h5"))


def test_imagenet_without_a_network_or_of_a_width_that_there_is_not(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import keras

    with pytest.raises(BadInput, match=r"Keras has none of imagenet for mobilenet-v2 at width 0\.1"):
        build(SMALL, 3, weights="imagenet")
    with pytest.raises(BadInput, match="Keras has none of imagenet for vit-tiny"):
        build(Architecture(family="vit-tiny", size=32), 3, weights="imagenet")
    monkeypatch.setattr(keras.config, "keras_home", lambda: str(tmp_path), raising=False)

    def offline(*_: object, **__: object) -> None:
        import urllib.error

        try:
            raise urllib.error.URLError("no route")
        except urllib.error.URLError:
            raise Exception("URL fetch failure") from None

    monkeypatch.setattr("keras.src.utils.file_utils.get_file", offline)
    with pytest.raises(BadInput, match="imagenet cannot be fetched from here; --weights PATH takes a file"):
        build(Architecture(alpha=0.35, size=32), 3, weights="imagenet")
