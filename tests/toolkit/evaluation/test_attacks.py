"""Attacks on a tiny Keras model: inside their bound, worse than noise, stronger with more steps; dropout at work."""

from __future__ import annotations

import numpy as np
import pytest

from device_agent.contract.manifest import InputSpec

pytestmark = pytest.mark.slow
SPEC = InputSpec(height=32, width=32)


@pytest.fixture(scope="module")
def world():
    """A model of two classes that was trained for a moment, with dropout, and images that it answers rightly."""
    from toolkit.framework import load_keras

    keras = load_keras()
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    labels = np.arange(96) % 2
    pattern = rng.normal(0, 1, (32, 32, 3))
    images = np.clip(
        128 + rng.normal(0, 25, (96, 32, 32, 3)) + 10 * pattern * (2 * labels - 1)[:, None, None, None], 0, 255
    )
    images = images.astype(np.uint8)
    model = keras.Sequential(
        [
            keras.Input((32, 32, 3)),
            keras.layers.Conv2D(4, 3, strides=2, activation="relu"),
            keras.layers.BatchNormalization(),
            keras.layers.Flatten(),
            keras.layers.Dropout(0.5),
            keras.layers.Dense(2),
        ]
    )
    model.compile(keras.optimizers.Adam(3e-3), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(images / np.float32(127.5) - 1, labels, epochs=8, batch_size=16, verbose=0)
    return model, images, labels


def accuracy(model, images, labels):
    return float(np.mean(np.asarray(model(images / np.float32(127.5) - 1)).argmax(axis=1) == labels))


def test_attacks_stay_inside_their_bound_and_beat_noise(world):
    from toolkit.evaluation.attacks import climbing, find_changes

    model, images, labels = world
    clean = accuracy(model, images, labels)
    assert clean > 0.9
    noise = np.random.default_rng(1).choice([-8, 8], images.shape)
    noisy = accuracy(model, np.clip(images.astype(int) + noise, 0, 255).astype(np.uint8), labels)
    scores = {}
    for steps in (1, 10):
        changed = find_changes(climbing(model, SPEC), images, labels, 8, steps=steps, rng=np.random.default_rng(2))
        assert changed.dtype == np.uint8
        assert 0 < np.abs(changed.astype(int) - images).max() <= 8
        scores[steps] = accuracy(model, changed, labels)
    assert scores[1] < noisy - 0.1
    assert scores[10] <= scores[1] + 0.02


def test_images_that_were_wrong_are_left_as_they_are(world):
    from toolkit.evaluation.attacks import climbing, find_changes

    model, images, labels = world
    changed = find_changes(climbing(model, SPEC), images, 1 - labels, 4, steps=1, rng=np.random.default_rng(2))
    wrong = np.asarray(model(images / np.float32(127.5) - 1)).argmax(axis=1) == labels
    assert wrong.any() and np.array_equal(changed[wrong], images[wrong])


def test_dropout_is_at_work_and_the_rest_of_the_model_stays_as_it_was(world):
    from toolkit.evaluation.uncertainty import dropout_passes, has_dropout

    model, images, _ = world
    values = images / np.float32(127.5) - 1
    before = [np.array(weight) for weight in model.get_weights()]
    passes = dropout_passes(model, values, 6, seed=0)
    assert has_dropout(model) and passes.shape == (6, 96, 2)
    assert passes.std(axis=0).max() > 0.01
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))
    assert model.layers[0].trainable
    assert passes.mean(axis=0).argmax(axis=1) == pytest.approx(np.asarray(model(values)).argmax(axis=1), abs=1)


def test_what_was_found_on_keras_is_judged_on_the_artifact_too(tiny_run, monkeypatch):
    """The Keras model computes what the ONNX artifact does: both must lose the same images."""
    from toolkit.evaluation.attacks import measure_attacks
    from toolkit.framework import load_keras

    keras = load_keras()
    level = {"bright": 200, "good": 128, "dark": 55}
    centres = np.array([level[label.name] / 127.5 - 1 for label in tiny_run.labels], np.float32)
    dense = keras.layers.Dense(3)
    model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Flatten(), dense])
    dense.set_weights([np.tile(30 * centres / 192, (192, 1)), -15 * centres**2])
    monkeypatch.setattr(type(tiny_run), "model", lambda self: model)
    monkeypatch.setattr(type(tiny_run), "images", None)  # not all validation images are in memory at one time
    found = measure_attacks(tiny_run, ["onnx-fp32"], levels=[8, 24], steps=3, most_images=30)
    assert (found.images, found.steps) == (30, 3)
    assert [(one.attack, one.levels) for one in found.results] == [
        ("fgsm", 0), ("fgsm", 8), ("fgsm", 24), ("pgd", 8), ("pgd", 24)
    ]  # fmt: skip
    for one in found.results:
        assert one.accuracy["onnx-fp32"] == pytest.approx(one.accuracy["keras"], abs=0.04)
        assert one.intervals["onnx-fp32"][0] <= one.accuracy["onnx-fp32"] <= one.intervals["onnx-fp32"][1]
    clean, weak, strong = (one.accuracy["onnx-fp32"] for one in found.results[:3])
    assert clean > weak > strong


def test_dropout_is_asked_for_some_images_at_a_time(tiny_run, monkeypatch):
    from toolkit.evaluation import uncertainty
    from toolkit.framework import load_keras

    keras = load_keras()
    layers = [keras.Input((8, 8, 3)), keras.layers.Flatten(), keras.layers.Dropout(0.5), keras.layers.Dense(3)]
    model = keras.Sequential(layers)
    seen, load = [], uncertainty.load
    monkeypatch.setattr(uncertainty, "CHUNK", 25)
    monkeypatch.setattr(uncertainty, "load", lambda *given: seen.append(len(given[2])) or load(*given))
    monkeypatch.setattr(type(tiny_run), "model", lambda self: model)
    found = uncertainty.measure_uncertainty(tiny_run, "onnx-fp32", dropout=True, passes=3)
    assert seen == [25, 25, 10]
    assert [one.name for one in found.doubts] == ["confidence", "entropy", "dropout", "dropout, disagreement"]
    assert found.doubts[2].accuracy < found.doubts[0].accuracy, "an untrained model knows less"
