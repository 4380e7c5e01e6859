"""Runs side by side: only what differs is shown, and a gain is taken on what both hold out."""

from __future__ import annotations

import csv
import io
import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from device_agent.contract.errors import BadInput
from toolkit.cli import cli
from toolkit.report.ablation import ablate, csv_table
from toolkit.runs import Run, open_run, write_record


@pytest.fixture
def other_run(tiny_run: Run, tmp_path: Path) -> Run:
    """A copy of the tiny run that was asked for three epochs."""
    shutil.copytree(tiny_run.dir, tmp_path / "other")
    record = msgspec.structs.replace(tiny_run.record, recipe={"epochs": 3})
    write_record(tmp_path / "other", record)
    return open_run(tmp_path / "other")


def test_only_the_fields_that_differ_are_shown(tiny_run: Run, other_run: Run) -> None:
    table = ablate([tiny_run, other_run], artifact="onnx-fp32")
    assert table.fields == ["epochs"]
    assert [row.asked for row in table.rows] == [{"epochs": 0}, {"epochs": 3}]
    assert table.same_data


def test_equal_models_gain_nothing_and_the_first_has_no_gain(tiny_run: Run, other_run: Run) -> None:
    first, second = ablate([tiny_run, other_run], artifact="onnx-fp32").rows
    assert first.gain is None
    assert second.gain is not None
    assert second.gain.value == 0
    assert second.common == second.evaluation.images == 60


def test_a_worse_model_loses(tiny_run: Run, other_run: Run, put_artifact: Callable[[Run, str, bytes], None]) -> None:
    content = (tiny_run.artifact_dir("onnx-fp32") / "model.onnx").read_bytes()
    import numpy as np

    onnx = pytest.importorskip("onnx")
    model = onnx.load_from_string(content)
    bias = next(each for each in model.graph.initializer if each.name == "bias")
    values = onnx.numpy_helper.to_array(bias) + np.array([6, 0, 0], np.float32)
    bias.CopyFrom(onnx.numpy_helper.from_array(values, "bias"))
    put_artifact(other_run, "onnx-fp32", model.SerializeToString())
    row = ablate([tiny_run, other_run], artifact="onnx-fp32").rows[1]
    assert row.gain is not None
    assert row.gain.value < -0.05
    assert row.gain.low < row.gain.value < row.gain.high
    assert row.gain.value == pytest.approx(row.evaluation.macro_f1 - row.gain.a)


def test_runs_without_images_in_common_are_shown_without_a_gain(tiny_run: Run, other_run: Run) -> None:
    lines = (other_run.dir / "split.csv").read_text().splitlines()
    swapped = [line.replace(",val", ",x").replace(",test", ",val").replace(",x", ",test") for line in lines]
    (other_run.dir / "split.csv").write_text("\n".join(swapped) + "\n")
    row = ablate([tiny_run, open_run(other_run.dir)], artifact="onnx-fp32").rows[1]
    assert row.gain is None
    assert "no val image in common" in row.why_not


def test_the_csv_holds_every_run(tiny_run: Run, other_run: Run) -> None:
    table = ablate([tiny_run, other_run], artifact="onnx-fp32")
    rows = list(csv.DictReader(io.StringIO(csv_table(table))))
    assert [row["epochs"] for row in rows] == ["0", "3"]
    assert float(rows[1]["macro_f1"]) == table.rows[1].evaluation.macro_f1
    assert rows[0]["gain"] == ""


def test_one_run_and_a_run_twice_are_refused(tiny_run: Run) -> None:
    with pytest.raises(BadInput, match="at least two runs"):
        ablate([tiny_run])
    with pytest.raises(BadInput, match="given twice"):
        ablate([tiny_run, open_run(tiny_run.dir)])


def test_the_command_prints_a_row_a_run(tiny_run: Run, other_run: Run, tmp_path: Path) -> None:
    words = ["ablation", str(tiny_run.dir), str(other_run.dir), "--artifact", "onnx-fp32"]
    answer = CliRunner().invoke(cli, [*words, "--csv", str(tmp_path / "table.csv")], catch_exceptions=False)
    assert answer.exit_code == 0
    assert "+0.00 (" in answer.output
    assert (tmp_path / "table.csv").read_text().count("\n") == 3
