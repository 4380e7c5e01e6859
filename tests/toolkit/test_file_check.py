"""`lineside verify FILE` and `lineside bench FILE`: files from elsewhere, tried on pictures."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from device_agent.contract.errors import BadInput, BudgetMissed, ParityFailed
from device_agent.contract.manifest import InputSpec
from toolkit.commands.bench import bench
from toolkit.commands.verify import verify
from toolkit.file_check import check_file, draw_pictures
from toolkit.runs import Run, open_run


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(verify, [str(each) for each in arguments])


@pytest.fixture
def file(tiny_run: Run, tmp_path: Path) -> Path:
    """A model that tells brightness, out of its run; outputs in the order bright, dark, good."""
    return Path(shutil.copy(tiny_run.artifact_dir("onnx-fp32") / "model.onnx", tmp_path / "model.onnx"))


def test_accuracy_has_an_interval_and_its_assumptions_are_said(file: Path, tiny_run: Run) -> None:
    result = invoke(file, "--data", tiny_run.data, "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    low, high = found["accuracy_interval"]
    assert found["images"] == 120 and found["predicted"] == 3 and found["spread"] > 1
    assert 0.7 < low < found["accuracy"] < high <= 1 and found["largest_class"] == pytest.approx(1 / 3)
    assert found["notes"] == ["input range -1 to 1 assumed: the file does not say it; --range LOW HIGH names another"]
    text = invoke(file, "--data", tiny_run.data, "--range", -1, 1).stdout
    assert "3 classes, logits" in text and "of 120 pictures" in text and "(given)" in text and "note" not in text


def test_without_pictures_it_is_said_that_nothing_is_known_of_the_answers(file: Path) -> None:
    found = check_file(file)
    assert found.passed and found.drawn and found.accuracy is None and found.images == 16
    assert any("nothing says that its answers are right" in note for note in found.notes)
    pictures = draw_pictures(InputSpec(height=8, width=8))
    assert np.ptp([picture.mean() for picture in pictures]) > 100


def test_wrong_settings_show_in_the_accuracy(file: Path, tiny_run: Run, tmp_path: Path) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_text("dark\ngood\nbright\n")
    found = check_file(file, tiny_run.data, labels=["dark", "good", "bright"])
    assert found.accuracy is not None and found.accuracy < 0.5
    assert any("order of the classes" in note for note in found.notes)
    assert "no better than" in invoke(file, "--data", tiny_run.data, "--labels", labels).stdout
    right = check_file(file, tiny_run.data, labels=["bright", "dark", "good"])
    assert right.accuracy == check_file(file, tiny_run.data).accuracy


def test_a_wrong_number_of_labels_says_what_would_work(file: Path, tiny_run: Run, tmp_path: Path) -> None:
    data = tmp_path / "two"
    for name in ("bright", "dark"):
        shutil.copytree(tiny_run.data / name, data / name)
    with pytest.raises(BadInput, match=r"gives 3 classes, .*two has 2 \(bright, dark\); .* --labels FILE"):
        check_file(file, data)
    assert check_file(file, data, labels=["bright", "dark", "good"]).accuracy is not None
    with pytest.raises(BadInput, match="the labels name 2"):
        check_file(file, data, labels=["bright", "dark"])
    with pytest.raises(BadInput, match="has the class 'bright', the labels have"):
        check_file(file, data, labels=["light", "dark", "good"])


def test_pictures_without_classes_serve_all_the_same(file: Path, tiny_run: Run, tmp_path: Path) -> None:
    flat = tmp_path / "flat"
    shutil.copytree(tiny_run.data / "dark", flat)
    found = check_file(file, flat)
    assert found.accuracy is None and not found.drawn and found.predicted >= 1
    assert any("pictures without classes" in note for note in found.notes)


def test_a_model_that_answers_nothing_ends_with_4(file: Path, tiny_run: Run) -> None:
    content, weight = file.read_bytes(), np.float32(30) * np.array([200, 55, 128], np.float32) / 127.5
    for row in (np.float32(30) * np.array([v / 127.5 - 1], np.float32) for v in (200, 55, 128)):
        assert row.tobytes() in content, weight
        content = content.replace(row.tobytes(), bytes(4))
    file.write_bytes(content)
    result = invoke(file, "--data", tiny_run.data)
    assert isinstance(result.exception, ParityFailed) and "same for all 120 pictures" in str(result.exception)


def test_a_file_is_held_against_a_certificate_or_refused_as_a_run(file: Path, tmp_path: Path) -> None:
    assert invoke(file, "--data", tmp_path, "--certificate", tmp_path).exit_code == 2
    assert invoke(file, "--range", 1, -1).exit_code == 2
    with pytest.raises(BadInput, match="is a file, no run; lineside verify and lineside bench take"):
        open_run(file)
    (tmp_path / "old.h5").write_bytes(b"\x89HDF")
    with pytest.raises(BadInput, match="lineside train DATA --out RUN --weights FILE"):
        open_run(tmp_path / "old.h5")


def test_a_file_is_measured_like_an_artifact(file: Path) -> None:
    result = CliRunner().invoke(bench, [str(file), "--quick", "--json"])
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)["model.onnx"]
    assert report["provenance"] == "measured" and report["runtime"] == "onnx" and report["runs"] >= 50
    missed = CliRunner().invoke(bench, [str(file), "--quick", "--max-p50-ms", "0.000001"])
    assert isinstance(missed.exception, BudgetMissed) and "model.onnx p50" in str(missed.exception)
    assert CliRunner().invoke(bench, [str(file), "--artifact", "onnx-fp32"]).exit_code == 2
