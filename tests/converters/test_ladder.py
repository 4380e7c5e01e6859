"""The ladder: the first step that passes is kept, nothing is computed after it, and all that was tried is told."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from converters import ladder
from converters.int8_options import Int8Options
from converters.keras_export import Export, keras_logits
from converters.ladder import climb
from converters.parity import Reference, compare, measure
from converters.rungs import Rung, Work, rungs
from converters.scheme import SchemeReport
from device_agent.contract.errors import ParityFailed
from device_agent.contract.manifest import InputSpec

LABELS = np.arange(400) % 4
KERAS = (np.eye(4)[LABELS] * 4 + np.random.default_rng(1).normal(0, 1, (400, 4))).astype(np.float32)
IMAGES = np.zeros((400, 2, 2, 3), np.uint8)
REFERENCE = Reference(IMAGES, LABELS, KERAS, IMAGES[:8])


@pytest.fixture
def attempt(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., tuple[Any, list[str]]]:
    """Climbs four steps of which those named pass; gives what was made (or the error) and the steps that were made."""

    def run(passing: set[str], nothing: set[str] = frozenset(), **asked: Any) -> tuple[Any, list[str]]:  # type: ignore[assignment]
        done: list[str] = []

        def rung(name: str) -> Rung:
            def make(work: Work) -> Any:
                done.append(name)
                return (
                    None
                    if name in nothing
                    else ([Path(name)], SchemeReport(asked="shared", chosen="shared", reason=""))
                )

            return Rung(name, f"cost of {name}", make)

        def judged(runtime: str, precision: Any, path: Path, *_: Any, max_drop: float | None = None) -> Any:
            got = KERAS if path.name in passing else KERAS[:, ::-1]
            return compare(got, KERAS, LABELS, precision, max_drop=max_drop)

        monkeypatch.setattr(ladder, "rungs", lambda *_: [rung(name) for name in ("one", "two", "three", "four")])
        monkeypatch.setattr(ladder, "measure", judged)
        export = Export(None, InputSpec(height=2, width=2), IMAGES, tmp_path)
        try:
            return climb("onnx-int8", export, REFERENCE, tmp_path, Int8Options(**asked), progress=done.append), done
        except ParityFailed as error:
            return error, done

    return run


def test_nothing_is_computed_after_a_first_step_that_passes(attempt: Callable[..., tuple[Any, list[str]]]) -> None:
    made, done = attempt({"one", "two"})
    assert done == ["one"]
    assert [step.name for step in made.steps] == ["one"] and made.steps[0].failures == []


def test_the_first_that_passes_is_kept_and_those_before_are_told(attempt: Callable[..., tuple[Any, list[str]]]) -> None:
    made, done = attempt({"three", "four"}, nothing={"two"})
    assert done == ["one", "onnx-int8, two", "two", "onnx-int8, three", "three"]
    assert made.files == [Path("three")] and made.parity.passed
    assert (made.scheme.asked, made.scheme.reason) == ("auto", "after 1 other failed")
    failed, kept = made.steps
    assert (failed.name, kept.name, kept.costs) == ("one", "three", "cost of three")
    assert failed.failures[0].startswith("mean error") and failed.f1_drop > 0.5 > failed.agreement
    assert failed.recall_drop > 0.5 and kept.f1_drop == kept.recall_drop == 0 and kept.agreement == 1


def test_where_none_passes_the_first_is_blamed_and_all_are_named(attempt: Callable[..., tuple[Any, list[str]]]) -> None:
    error, done = attempt(set(), nothing={"four"})
    assert done[-1] == "four"
    assert isinstance(error, ParityFailed) and str(error).startswith("onnx-int8: mean error")
    assert str(error).endswith("(400 images); neither by two, three")


def test_the_loss_that_is_asked_for_is_the_limit() -> None:
    got = KERAS.copy()
    got[LABELS == 3, 3] -= 2
    for max_drop, passes in ((None, False), (0.5, True), (0.01, False)):
        failures = compare(got, KERAS, LABELS, "int8", max_drop=max_drop).failures
        assert any(each.startswith("macro-F1") for each in failures) is not passes, failures


def test_steps_keep_to_what_was_asked() -> None:
    def names(name: str, **asked: Any) -> list[str]:
        return [rung.name for rung in rungs(name, "mse", Int8Options(**asked))]

    assert names("litert-int8")[-3:] == ["1 layer in float", "4 layers in float", "16 layers in float"]
    assert names("litert-int8", scheme="shared") == [
        "mse ranges",
        "minmax ranges",
        "percentile ranges",
        "cross-layer equalisation",
    ]
    assert names("openvino-int8", scheme="native") == ["mse ranges", "cross-layer equalisation"]
    assert "native quantizer" not in names("litert-uint8")
    assert rungs("onnx-int8", "mse", Int8Options())[0].name == "mse ranges"


def test_the_scheme_that_was_not_chosen_is_tried_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[str] = []

    def converted(name: str, runtime: str, export: Export, folder: Path, images: Any, scheme: Any) -> Any:
        asked.append(scheme)
        return [folder / "model.onnx"], SchemeReport(asked=scheme, chosen="native", reason="")

    monkeypatch.setattr("converters.rungs.convert", converted)
    export = Export(None, InputSpec(height=2, width=2), IMAGES, tmp_path)
    work = Work("onnx-int8", export, tmp_path, REFERENCE, Int8Options())
    steps = {rung.name: rung for rung in rungs("onnx-int8", "mse", Int8Options())}
    assert steps["shared integers"].make(work) is None, "nothing was chosen yet"
    steps["mse ranges"].make(work)
    assert steps["shared integers"].make(work) is not None and steps["native quantizer"].make(work) is None
    assert asked == ["auto", "shared"]


def _network() -> Any:
    spec = importlib.util.spec_from_file_location("networks", Path(__file__).with_name("test_equalisation.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.network(None)


@pytest.mark.slow
def test_every_step_makes_files_that_compute_the_network(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pictures = np.clip(rng.uniform(20, 235, (300, 1, 1, 3)) + rng.normal(0, 25, (300, 16, 16, 3)), 0, 255).astype(
        np.uint8
    )
    model, spec = _network(), InputSpec(height=16, width=16)
    kernel, bias = model.get_layer("logits").get_weights()
    model.get_layer("logits").set_weights([kernel, bias - keras_logits(model, spec, pictures).mean(axis=0)])
    export = Export(model, spec, pictures[:60], tmp_path)
    logits = export.logits(pictures[60:])
    assert np.bincount(logits.argmax(axis=1)).max() < 0.8 * len(logits), "one answer for all proves nothing"
    reference = Reference(pictures[60:], logits.argmax(axis=1), logits, pictures[:8])
    found: dict[tuple[str, str], float] = {}
    for name in ("litert-int8", "onnx-int8", "openvino-int8", "litert-uint8"):
        work = Work(name, export, tmp_path / name, reference, Int8Options())
        work.folder.mkdir()
        for rung in rungs(name, export.ranges, Int8Options()):
            if (made := rung.make(work)) is not None:
                found[name, rung.name] = measure(work.runtime, "int8", made[0][0], export.spec, reference).mean_error
    assert len(found) >= 6 + 4 + 4 + 4 and max(found.values()) < 0.2, found
    assert found["litert-int8", "cross-layer equalisation"] < found["litert-int8", "mse ranges"], found
    assert found["litert-int8", "1 layer in float"] < found["litert-int8", "native quantizer"], found
    assert ("litert-int8", "16 layers in float") not in found, "half of the layers in float is no int8 artifact"
