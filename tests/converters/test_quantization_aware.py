"""Quantization-aware training brings the int8 file nearer to the float model; what it starts from does not."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from converters import ladder, rungs, shared
from converters.int8_options import Int8Options
from converters.keras_export import Export, keras_logits
from converters.parity import ParityReport, Reference, answers, compare
from converters.quantization_aware import obstacle
from converters.shared.graph import Unsupported
from device_agent.contract.manifest import InputSpec

pytestmark = pytest.mark.slow
SPEC = InputSpec(height=16, width=16)


@pytest.fixture(scope="module")
def pictures() -> np.ndarray:
    rng = np.random.default_rng(0)
    tints = rng.uniform(20, 235, (900, 1, 1, 3))
    return np.clip(tints + rng.normal(0, 25, (900, 16, 16, 3)), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def export(pictures: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Export:
    spec = importlib.util.spec_from_file_location("networks", Path(__file__).with_name("test_equalisation.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    model, scratch = module.network(None), tmp_path_factory.mktemp("scratch")
    kernel, bias = model.get_layer("logits").get_weights()
    model.get_layer("logits").set_weights([kernel, bias - keras_logits(model, SPEC, pictures).mean(axis=0)])
    return Export(model, SPEC, pictures[:60], scratch, training=lambda: pictures[60:600])


def _error(export: Export, pictures: np.ndarray, wanted: np.ndarray) -> float:
    got = answers("litert", shared.source(export), SPEC, pictures)
    return float(np.abs(got - wanted).mean() / wanted.std())


def test_the_int8_file_comes_nearer_to_the_float_model_on_images_it_never_saw(
    export: Export, pictures: np.ndarray
) -> None:
    unseen = pictures[600:]
    wanted = export.logits(unseen)
    before, after = (_error(each, unseen, wanted) for each in (export, export.taught(4)))
    assert before > 0.01, "there is something to gain"
    assert after < 0.85 * before
    control = export.taught(0)
    assert _error(control, unseen, wanted) > 1.1 * after, "it is what is learnt that helps"


def test_kernels_come_back_rounded_and_the_model_stays(export: Export) -> None:
    before = export.model.get_weights()
    kernel = export.taught(4).model.get_layer("project").get_weights()[0]
    steps = np.abs(kernel).max(axis=(0, 1, 2)) / 127
    np.testing.assert_allclose(kernel / steps, np.rint(kernel / steps), atol=1e-3)
    assert all(np.array_equal(*pair) for pair in zip(before, export.model.get_weights(), strict=True))


def test_the_step_brings_its_control_and_keeps_its_own_files(
    export: Export, pictures: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logits = export.logits(pictures[600:])
    reference = Reference(pictures[600:], logits.argmax(axis=1), logits, pictures[:8])
    judged: list[Path] = []

    def judge(_runtime: str, _precision: str, path: Path, *_: Any, **__: Any) -> ParityReport:
        judged.append(path.relative_to(tmp_path))
        assert path.exists()
        return compare(logits, logits, reference.labels, "int8")

    monkeypatch.setattr(ladder, "measure", judge)
    every, told = rungs.rungs, list[str]()
    names = [[rung.name for rung in every("onnx-int8", "mse", Int8Options(qat=epochs))] for epochs in (0, 4)]
    assert names[0] == names[1][:-1], "the last of all, and only where it is asked for"

    def last_alone(*args: Any) -> list[rungs.Rung]:
        return every(*args)[-1:]

    monkeypatch.setattr(ladder, "rungs", last_alone)
    made = ladder.climb("onnx-int8", export, reference, tmp_path, Int8Options(qat=4), progress=told.append)
    (step,) = made.steps
    assert step.name == "quantization-aware training (4 epochs)"
    assert step.control is not None and step.control.name == "the same with nothing learnt"
    assert judged == [Path("model.onnx"), Path("control/model.onnx")]
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"] and made.files == [tmp_path / "model.onnx"]


def test_what_cannot_be_followed_is_named_and_the_step_left_out(export: Export, tmp_path: Path) -> None:
    import keras

    image = keras.Input((16, 16, 3))
    twice = keras.layers.Conv2D(3, 3, padding="same", name="twice")
    inner = keras.Sequential([keras.Input((16, 16, 3)), keras.layers.Conv2D(2, 3)], name="inner")
    for last, expected in ((twice(twice(image)), "twice is used more than once"), (inner(image), "inner is a model")):
        model = keras.Model(image, keras.layers.GlobalAveragePooling2D()(last))
        assert expected in obstacle(model)
        told = list[str]()
        work = rungs.Work("litert-int8", Export(model, SPEC, export.calibration, tmp_path, training=export.training),
                           tmp_path, Reference(*[export.calibration] * 4), Int8Options(qat=1))  # fmt: skip
        work.progress = told.append
        (rung,) = [each for each in rungs.rungs("litert-int8", "mse", work.asked) if each.prepare is not None]
        assert rung.prepare is not None
        rung.prepare(work)
        assert rung.make(work) is None and expected in told[0]
    assert obstacle(export.model) == ""


def test_a_layer_that_is_used_twice_is_not_shared(pictures: np.ndarray, tmp_path: Path) -> None:
    import keras

    image = keras.Input((16, 16, 3))
    twice = keras.layers.Conv2D(3, 3, padding="same")
    model = keras.Model(image, keras.layers.GlobalAveragePooling2D()(twice(twice(image))))
    with pytest.raises(Unsupported, match="used more than once"):
        shared.source(Export(model, SPEC, pictures[:20], tmp_path))
