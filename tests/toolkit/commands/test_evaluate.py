"""The commands evaluate and compare, as a user calls them."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from device_agent.contract.errors import BadInput, BudgetMissed
from toolkit.commands.compare import compare
from toolkit.commands.evaluate import evaluate
from toolkit.evaluation.scores import evaluation_path, read_evaluation
from toolkit.runs import Run


def call(run: Run, *arguments: str) -> Result:
    return CliRunner().invoke(evaluate, [str(run.dir), "--artifact", "onnx-fp32", *arguments], env={"COLUMNS": "200"})


def test_every_question_is_answered_in_json(tiny_run: Run, tmp_path: Path) -> None:
    files = tiny_run.dataset().files
    lines = [f"{file},{who},{file.partition('/')[0]}" for file in files for who in ("ann", "bob")]
    (tmp_path / "people.csv").write_text("file,annotator,label\n" + "\n".join(lines) + "\n")
    result = call(
        tiny_run, "--json", "--slice", "camera", "--slice", "time:shift", "--protected", "camera", "--gallery",
        "--annotations", str(tmp_path / "people.csv"), "--against-simple-rule", "--human-review", "cost=1,recall=0.9",
        "--keep-failures", str(tmp_path / "kept.csv"), "--min", "accuracy=0.1", "--max", "ece=0.9",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    (found,) = json.loads(result.stdout)
    assert [one["column"] for one in found["slices"]] == ["camera", "time:shift"]
    assert found["equalised_odds"][0]["column"] == "camera" and found["ceiling"]["images"] == 60
    assert found["simple_rule"]["decides"] == "defect" and found["review"]["defects"] == pytest.approx(0.01)
    assert [one["passed"] for one in found["gates"]] == [True, True]
    assert found["kept_failures"] == len(found["mistakes"]) > 0 and Path(found["gallery"]).is_file()
    assert found["figures"]["macro-f1"]["low"] < found["macro_f1"] < found["figures"]["macro-f1"]["high"]
    folder = tiny_run.dir / "evaluation"
    for name in ("confusion.png", "precision-recall.png"):
        assert (folder / f"onnx-fp32.{name}").read_bytes()[:4] == b"\x89PNG"
    assert json.loads((folder / "onnx-fp32.findings.json").read_text())["slices"]


def test_the_tables_say_the_same(tiny_run: Run, tmp_path: Path) -> None:
    result = call(tiny_run, "--slice", "camera", "--protected", "camera", "--against-simple-rule", "--gallery",
                  "--human-review", "cost=1,recall=0.9", "--min", "accuracy=0.1")  # fmt: skip
    assert result.exit_code == 0, result.output
    for text in (
        "cam-0",
        "true positive rate",
        "a simple rule may do",
        "people check its alarms",
        "reached: onnx-fp32",
    ):
        assert text in result.stdout, text
    assert "equal-mass" in result.stdout and "average precision" in result.stdout and "mistakes" in result.stdout


def test_a_gate_that_is_missed_ends_with_exit_code_3_and_says_all(tiny_run: Run) -> None:
    result = call(tiny_run, "--json", "--min", "macro-f1=0.99", "--min", "recall.dark=0.5", "--max", "ece=0.0")
    assert isinstance(result.exception, BudgetMissed) and result.exception.exit_code == 3
    assert "macro-f1" in str(result.exception) and "ece" in str(result.exception)
    assert "recall.dark" not in str(result.exception)
    assert json.loads(result.stdout)[0]["gates"], "the figures are printed first"
    value = call(tiny_run, "--min", "accuracy=0.84", "--gate-on", "value")
    assert value.exit_code == 0
    assert isinstance(call(tiny_run, "--min", "accuracy=0.84").exception, BudgetMissed), "the bound is lower"


def test_known_failures_end_with_exit_code_3_and_are_named(tiny_run: Run, tmp_path: Path) -> None:
    kept = tmp_path / "kept.csv"
    assert call(tiny_run, "--keep-failures", str(kept)).exit_code == 0
    result = call(tiny_run, "--failures", str(kept))
    first = kept.read_text().splitlines()[1].partition(",")[0]
    assert isinstance(result.exception, BudgetMissed) and first in str(result.exception)
    assert "0 of" in result.stdout


def test_options_that_do_not_go_together_are_refused(tiny_run: Run, tmp_path: Path) -> None:
    assert "--on" in str(call(tiny_run, "--map", "a=b").exception)
    assert "THEIRS=OURS" in str(call(tiny_run, "--map", "a", "--on", str(tmp_path)).exception)
    both = CliRunner().invoke(evaluate, [str(tiny_run.dir), "--keep-failures", str(tmp_path / "k.csv")])
    assert isinstance(both.exception, BadInput) and "--artifact" in str(both.exception)
    assert not (tmp_path / "k.csv").exists()


def test_the_test_split_is_counted_once_whatever_is_asked(tiny_run: Run) -> None:
    result = call(tiny_run, "--split", "test", "--json", "--slice", "camera", "--gallery", "--protected", "camera")
    assert json.loads(result.stdout)[0]["times_scored"] == 1
    assert (tiny_run.dir / "evaluation" / "onnx-fp32.test.mistakes.html").is_file()


def test_a_result_of_an_earlier_version_is_read_and_made_anew(tiny_run: Run) -> None:
    from toolkit.evaluation.scores import ensure_evaluation

    call(tiny_run)
    path = evaluation_path(tiny_run, "onnx-fp32")
    old = json.loads(path.read_text()) | {"schema": "1.0"}
    for name in ("figures", "task", "ece_equal_width"):
        del old[name]
    path.write_text(json.dumps(old))
    read = read_evaluation(tiny_run, "onnx-fp32")
    assert read is not None and read.figures == {} and read.macro_f1 == old["macro_f1"]
    assert ensure_evaluation(tiny_run, "onnx-fp32").figures["macro-f1"].value == old["macro_f1"]


def test_two_artifacts_are_compared(tiny_run: Run) -> None:
    arguments = [str(tiny_run.dir)] * 2 + ["--artifact", "onnx-fp32", "--artifact", "onnx-int8"]
    result = CliRunner().invoke(compare, [*arguments, "--json"], catch_exceptions=False)
    found = json.loads(result.stdout)
    assert found["images"] == 60 and found["mcnemar"]["p_groups"] == 1 and found["figures"]["macro-f1"]["value"] == 0
    shown = CliRunner().invoke(compare, [*arguments, "--split", "test"], catch_exceptions=False)
    assert "fixed by B" in shown.stdout and "held-out" in shown.stderr
    assert (tiny_run.dir / "evaluation" / "compared.html").is_file()


def test_a_run_is_not_compared_with_itself(tiny_run: Run) -> None:
    relative = os.path.relpath(tiny_run.dir)
    result = CliRunner().invoke(compare, [str(tiny_run.dir), relative])
    assert isinstance(result.exception, BadInput) and "the same onnx-fp32" in str(result.exception)
