"""Answers are computed once, kept under digests, and looks at the test split are counted."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable

import numpy as np
import pytest

from device_agent.contract.errors import BadInput
from toolkit.artifacts import Artifact, open_artifact
from toolkit.evaluation import answers as module
from toolkit.evaluation.answers import answers_of, infer, infer_on, times_scored
from toolkit.evaluation.scores import evaluate_artifact, evaluation_path
from toolkit.runs import Run


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many images each call asked a runtime for."""
    calls: list[int] = []

    def counting(runtime: object, images: np.ndarray, **more: object) -> np.ndarray:
        calls.append(len(images))
        return infer(runtime, images, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "infer", counting)
    return calls


def test_an_answer_stands_beside_its_image(tiny_run: Run) -> None:
    found = answers_of(tiny_run, "onnx-fp32", "val")
    dataset, rows = tiny_run.dataset(), tiny_run.rows("val")
    images, labels = tiny_run.images("val")
    runtime = open_artifact(tiny_run, "onnx-fp32").open(tiny_run.record.input)
    assert found.files == [dataset.files[row] for row in rows] and (found.labels == labels).all()
    assert found.groups.tolist() == dataset.groups[rows].tolist() and found.marks is None
    assert found.columns["camera"] == [dataset.columns["camera"][row] for row in rows]
    assert np.ptp(found.logits, axis=0).max() > 10
    np.testing.assert_array_equal(found.logits, infer(runtime, images))


def test_they_are_computed_once(tiny_run: Run, asked: list[int]) -> None:
    first = answers_of(tiny_run, "onnx-fp32", "val")
    second = answers_of(tiny_run, "onnx-fp32", "val")
    assert asked == [60] and (first.logits == second.logits).all()


def test_another_model_under_the_same_name_is_asked_again(
    tiny_run: Run, put_artifact: Callable[[Run, str, bytes], None], asked: list[int]
) -> None:
    first = answers_of(tiny_run, "onnx-fp32", "val")
    put_artifact(tiny_run, "onnx-fp32", (tiny_run.artifact_dir("onnx-int8") / "model.onnx").read_bytes())
    assert not (answers_of(tiny_run, "onnx-fp32", "val").logits == first.logits).all() and asked == [60, 60]


def test_another_version_of_the_runtime_is_asked_again(
    tiny_run: Run, asked: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    answers_of(tiny_run, "onnx-fp32", "val")
    opened = Artifact.open

    def later(self: Artifact, *arguments: object, **more: object) -> object:
        runtime = opened(self, *arguments, **more)  # type: ignore[arg-type]
        runtime.version = "99"
        return runtime

    monkeypatch.setattr(Artifact, "open", later)
    assert answers_of(tiny_run, "onnx-fp32", "val").runtime_version == "99" and asked == [60, 60]


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 not a zip", b"\x93NUMPY"])
def test_a_damaged_file_is_made_anew(tiny_run: Run, damage: bytes) -> None:
    first = answers_of(tiny_run, "onnx-fp32", "val")
    (tiny_run.dir / "evaluation" / "onnx-fp32.val.npz").write_bytes(damage)
    assert (answers_of(tiny_run, "onnx-fp32", "val").logits == first.logits).all()


def test_images_are_asked_a_few_at_a_time(tiny_run: Run, asked: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    whole, _ = infer_on(tiny_run, "onnx-fp32", tiny_run.dataset(), tiny_run.rows("val"))
    monkeypatch.setattr(module, "CHUNK", 25)
    seen: list[tuple[int, int]] = []
    parts, _ = infer_on(
        tiny_run, "onnx-fp32", tiny_run.dataset(), tiny_run.rows("val"), progress=lambda *done: seen.append(done)
    )
    assert asked == [60, 25, 25, 10] and seen == [(25, 60), (50, 60), (60, 60)]
    np.testing.assert_array_equal(whole, parts)


def test_each_look_at_the_test_split_is_counted_also_when_nothing_is_computed(tiny_run: Run, asked: list[int]) -> None:
    for _ in range(2):
        answers_of(tiny_run, "onnx-fp32", "test")
    assert times_scored(tiny_run, "onnx-fp32") == 2 and asked == [30]
    assert times_scored(tiny_run, "onnx-int8") == 0
    assert evaluate_artifact(tiny_run, "onnx-fp32", split="test").times_scored == 3


def test_a_count_from_before_goes_on(tiny_run: Run) -> None:
    evaluate_artifact(tiny_run, "onnx-fp32", split="test")
    path = evaluation_path(tiny_run, "onnx-fp32", "test")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"times_scored": 7}))
    (tiny_run.dir / "evaluation" / "scorings.json").unlink()
    assert evaluate_artifact(tiny_run, "onnx-fp32", split="test").times_scored == 8


def test_damaged_counts_are_refused(tiny_run: Run) -> None:
    (tiny_run.dir / "evaluation").mkdir()
    (tiny_run.dir / "evaluation" / "scorings.json").write_text("[")
    with pytest.raises(BadInput, match=r"scorings\.json"):
        answers_of(tiny_run, "onnx-fp32", "test")


def test_rows_take_everything_with_them(tiny_run: Run) -> None:
    found = answers_of(tiny_run, "onnx-fp32", "val")
    part = found.only(np.array([3, 1]))
    assert part.files == [found.files[3], found.files[1]] and (part.logits == found.logits[[3, 1]]).all()
    assert part.columns["time"] == [found.columns["time"][3], found.columns["time"][1]]
    shutil.rmtree(tiny_run.dir / "evaluation")


def test_the_keras_model_itself_is_asked_once_for_each_model_file(
    tiny_run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def predict(model: object, images: np.ndarray, spec: object) -> np.ndarray:
        assert model == "the model"
        asked.append(len(images))
        return np.eye(3, dtype=np.float32)[np.arange(len(images)) % 3]

    monkeypatch.setattr(module, "_predict", predict)
    monkeypatch.setattr(Run, "model", lambda _run: "the model")
    for _ in range(2):
        found = answers_of(tiny_run, "keras", "val")
    assert asked == [60] and found.logits[1].tolist() == [0, 1, 0] and found.runtime_version
    tiny_run.model_path.write_bytes(b"another Keras model")
    answers_of(tiny_run, "keras", "val")
    assert asked == [60, 60]
