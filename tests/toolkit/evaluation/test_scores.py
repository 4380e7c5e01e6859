"""Evaluation through the device's runtime, saved in the run."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner

from device_agent.contract.errors import BadInput, NotFound, ParityFailed
from device_agent.runtimes import logits as logits_of
from toolkit.artifacts import open_artifact, open_artifacts
from toolkit.commands.evaluate import evaluate
from toolkit.evaluation.answers import Answers, check_logits, subject_of
from toolkit.evaluation.scores import (
    Evaluation,
    ensure_evaluation,
    evaluate_artifact,
    evaluation_path,
    read_evaluation,
    score,
)
from toolkit.runs import Run, open_run, write_record


def test_the_figures_are_those_of_the_device(tiny_run: Run) -> None:
    result = evaluate_artifact(tiny_run, "onnx-fp32")
    images, labels = tiny_run.images("val")
    runtime = open_artifact(tiny_run, "onnx-fp32").open(tiny_run.record.input)
    logits = np.array([logits_of(runtime, image) for image in images])
    assert np.ptp(logits, axis=0).max() > 10 and len(np.unique(logits.argmax(axis=1))) == 3
    assert result.images == len(labels) == 60
    assert result.accuracy == pytest.approx(float(np.mean(logits.argmax(axis=1) == labels)))
    assert 0.7 < result.accuracy < 1
    assert result.accuracy_interval[0] < result.accuracy < result.accuracy_interval[1]
    assert np.array(result.confusion).sum() == 60
    assert np.diag(result.confusion) / np.sum(result.confusion, axis=1) == pytest.approx(result.recall)
    assert result.groups == 30


def test_temperature_and_baseline_are_of_all_validation_images(tiny_run: Run) -> None:
    result = evaluate_artifact(tiny_run, "onnx-fp32")
    assert 0.1 < result.temperature < 10 and result.temperature != 1
    assert result.baseline is not None
    dense = result.baseline.dense()
    assert dense.sum(axis=(1, 2)).tolist() == [20, 20, 20]
    assert dense.sum(axis=2).tolist() == result.confusion
    assert result.baseline.prevalence == tiny_run.record.prevalence


def _score(run: Run, predicted: list[int], labels: list[int], groups: list[str]) -> Evaluation:
    logits = 2 * np.eye(3, dtype=np.float32)[predicted]
    answers = Answers([""] * len(labels), np.array(labels), np.array(groups), logits, {}, None)
    return score(run, subject_of(run, "onnx-fp32"), answers, split="val", temperature=None)


def test_balanced_accuracy_is_the_mean_recall_of_the_classes(tiny_run: Run) -> None:
    found = _score(tiny_run, [0] * 6 + [1, 0, 0] + [0], [0] * 6 + [1] * 3 + [2], ["a", "b"] * 5)
    assert found.recall == [1.0, pytest.approx(1 / 3), 0.0]
    assert found.accuracy == pytest.approx(0.7) and found.balanced_accuracy == pytest.approx(4 / 9)


def test_the_calibration_error_is_that_of_groups_the_temperature_did_not_see(tiny_run: Run) -> None:
    labels = [0] * 40 + [0, 1] * 20
    found = _score(tiny_run, [0] * 80, labels, ["always right"] * 40 + ["half right"] * 40)
    confidence = np.exp(2 / found.temperature) / (np.exp(2 / found.temperature) + 2)
    assert confidence == pytest.approx(0.75, abs=0.02), "on its own images the temperature leaves no error"
    assert found.ece > 0.4


def test_it_is_saved_and_the_same_twice(tiny_run: Run) -> None:
    result = evaluate_artifact(tiny_run, "onnx-fp32")
    first = evaluation_path(tiny_run, "onnx-fp32").read_bytes()
    assert read_evaluation(tiny_run, "onnx-fp32") == result
    evaluate_artifact(tiny_run, "onnx-fp32")
    assert evaluation_path(tiny_run, "onnx-fp32").read_bytes() == first


def test_a_saved_result_of_another_file_is_made_anew(
    tiny_run: Run, put_artifact: Callable[[Run, str, bytes], None]
) -> None:
    first = ensure_evaluation(tiny_run, "onnx-fp32")
    assert ensure_evaluation(tiny_run, "onnx-fp32") == first
    other = tiny_run.artifact_dir("onnx-int8") / "model.onnx"
    put_artifact(tiny_run, "onnx-fp32", other.read_bytes())
    again = ensure_evaluation(tiny_run, "onnx-fp32")
    assert again.artifact_sha256 != first.artifact_sha256
    assert again.temperature != first.temperature


def test_the_held_out_split_is_counted_and_fits_nothing(tiny_run: Run) -> None:
    first = evaluate_artifact(tiny_run, "onnx-fp32", split="test")
    validation = read_evaluation(tiny_run, "onnx-fp32")
    assert validation is not None and first.temperature == validation.temperature
    assert (first.images, first.baseline, first.times_scored) == (30, None, 1)
    assert evaluate_artifact(tiny_run, "onnx-fp32", split="test").times_scored == 2


def test_an_artifact_that_is_not_there_names_the_command(tiny_run: Run) -> None:
    with pytest.raises(NotFound, match=r"litert-int8 is not there .*onnx-fp32, onnx-int8.*lineside convert"):
        evaluate_artifact(tiny_run, "litert-int8")
    (tiny_run.artifact_dir("onnx-int8") / "model.onnx").unlink()
    with pytest.raises(NotFound, match=r"model\.onnx: the file is gone"):
        evaluate_artifact(tiny_run, "onnx-int8")


def test_no_artifacts_at_all(tiny_run: Run) -> None:
    for name in tiny_run.artifacts():
        (tiny_run.artifact_dir(name) / "artifact.json").unlink()
    with pytest.raises(NotFound, match="no artifacts there; convert with"):
        open_artifacts(tiny_run)


@pytest.mark.parametrize("text", [b"{", b"{}", b'{"schema": "1.0"}', b"\xff"])
def test_a_damaged_result_is_named(tiny_run: Run, text: bytes) -> None:
    path = evaluation_path(tiny_run, "onnx-fp32")
    path.parent.mkdir()
    path.write_bytes(text)
    with pytest.raises(BadInput, match=r"onnx-fp32\.json"):
        read_evaluation(tiny_run, "onnx-fp32")


def test_answers_that_cannot_be_scored_are_refused() -> None:
    with pytest.raises(ParityFailed, match="not finite for 1 of 2 images"):
        check_logits(np.array([[0, 1], [np.nan, 0]], np.float32), 2, where="a")
    with pytest.raises(ParityFailed, match="gives 2 logits, the run has 3 classes"):
        check_logits(np.zeros((2, 2), np.float32), 3, where="a")


def test_the_command_prints_a_table_and_a_plot(tiny_run: Run) -> None:
    result = CliRunner().invoke(evaluate, [str(tiny_run.dir)], env={"COLUMNS": "160"}, catch_exceptions=False)
    assert result.exit_code == 0
    assert "onnx-int8" in result.stdout and "macro-F1" in result.stdout and "60 images" in result.stdout
    assert (tiny_run.dir / "evaluation" / "reliability.png").read_bytes()[:4] == b"\x89PNG"


def test_the_command_as_json(tiny_run: Run) -> None:
    arguments = [str(tiny_run.dir), "--split", "test", "--artifact", "onnx-fp32", "--json"]
    result = CliRunner().invoke(evaluate, arguments, catch_exceptions=False)
    (one,) = json.loads(result.stdout)
    assert one["artifact"] == "onnx-fp32" and one["split"] == "test" and one["times_scored"] == 1
    assert "held-out" in result.stderr


def test_nothing_of_a_training_framework_is_loaded(tiny_run: Run) -> None:
    code = (
        "import sys; from toolkit.runs import open_run; from toolkit.evaluation.scores import evaluate_artifact;"
        f"evaluate_artifact(open_run({str(tiny_run.dir)!r}), 'onnx-fp32');"
        "sys.exit('tensorflow' in sys.modules or 'keras' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(("task", "figure"), [("hierarchy", "kind-accuracy"), ("labels", "exact-match")])
def test_the_task_of_the_run_decides_the_figures(tiny_run: Run, task: str, figure: str) -> None:
    plain = evaluate_artifact(tiny_run, "onnx-fp32")
    write_record(tiny_run.dir, msgspec.structs.replace(tiny_run.record, recipe={"task": task}))
    found = evaluate_artifact(open_run(tiny_run.dir), "onnx-fp32")
    assert found.task == task and figure in found.figures
    assert (found.baseline, found.temperature) == (plain.baseline, plain.temperature), "the device decides as before"
    assert plain.task == "classes" and ("exact-match" in plain.figures) is False


def test_an_unknown_task_is_refused(tiny_run: Run) -> None:
    write_record(tiny_run.dir, msgspec.structs.replace(tiny_run.record, recipe={"task": "regression"}))
    with pytest.raises(BadInput, match="task 'regression'"):
        evaluate_artifact(open_run(tiny_run.dir), "onnx-fp32")
