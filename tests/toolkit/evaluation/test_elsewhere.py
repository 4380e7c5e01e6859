"""The same model on another folder."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from device_agent.contract.errors import BadInput
from toolkit.evaluation.elsewhere import difference_interval, evaluate_elsewhere
from toolkit.evaluation.figures import Figure
from toolkit.evaluation.scores import evaluate_artifact
from toolkit.runs import Run


def draw(folder: Path, levels: dict[str, int], count: int = 20) -> Path:
    """Noise around a grey level for each class."""
    rng = np.random.default_rng(9)
    for name, level in levels.items():
        (folder / name).mkdir(parents=True)
        for number in range(count):
            image = np.clip(rng.normal(level, 25, (16, 16, 3)), 0, 255).astype(np.uint8)
            cv2.imwrite(str(folder / name / f"{number}.png"), image)
    return folder


def test_a_camera_that_shifts_the_light_shows_as_a_gap(tiny_run: Run, tmp_path: Path) -> None:
    home = evaluate_artifact(tiny_run, "onnx-fp32")
    folder = draw(tmp_path / "real", {"bright": 255, "good": 190, "dark": 130})
    found = evaluate_elsewhere(tiny_run, home, folder)
    (balanced,) = (one for one in found.figures if one.name == "balanced-accuracy")
    assert found.images == 60 and found.missing == [] and balanced.high < 0
    assert balanced.home.value == home.balanced_accuracy and balanced.elsewhere.value == pytest.approx(1 / 3)
    assert found.verdict.startswith("worse there")
    assert {"recall.good", "ece", "defect-recall"} <= {one.name for one in found.figures}


def test_a_folder_that_is_like_home_shows_no_gap(tiny_run: Run, tmp_path: Path) -> None:
    home = evaluate_artifact(tiny_run, "onnx-fp32")
    data = tiny_run.dataset()
    for row in tiny_run.rows("test"):
        path = tmp_path / "held" / data.files[row]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes((data.dir / data.files[row]).read_bytes())
    assert "no gap beyond chance" in evaluate_elsewhere(tiny_run, home, tmp_path / "held").verdict


def test_classes_are_renamed_and_joined_and_those_missing_are_said(tiny_run: Run, tmp_path: Path) -> None:
    home = evaluate_artifact(tiny_run, "onnx-fp32")
    folder = draw(tmp_path / "real", {"white": 220, "grey": 128, "light": 190})
    with pytest.raises(BadInput, match=r"no class 'grey', it has bright, dark, good; .*--map 'grey=CLASS'"):
        evaluate_elsewhere(tiny_run, home, folder)
    mapping = {"white": "bright", "light": "bright", "grey": "good"}
    found = evaluate_elsewhere(tiny_run, home, folder, mapping=mapping)
    assert found.missing == ["dark"] and found.images == 60
    (recall,) = (one for one in found.figures if one.name == "recall.bright")
    assert recall.elsewhere.images == 40 and recall.elsewhere.value > 0.9
    with pytest.raises(BadInput, match="no class 'black' to rename"):
        evaluate_elsewhere(tiny_run, home, folder, mapping=mapping | {"black": "dark"})


def test_a_training_picture_is_refused_whatever_its_name_and_format(tiny_run: Run, tmp_path: Path) -> None:
    home = evaluate_artifact(tiny_run, "onnx-fp32")
    folder = draw(tmp_path / "real", {"bright": 200, "dark": 50}, 2)
    data = tiny_run.dataset()
    trained = cv2.imread(str(data.dir / data.files[tiny_run.rows("train")[0]]))
    cv2.imwrite(str(folder / "dark" / "renamed.bmp"), trained)
    with pytest.raises(BadInput, match=r"1 of 5 pictures are training images .*dark/renamed\.bmp"):
        evaluate_elsewhere(tiny_run, home, folder)


def test_the_interval_of_a_difference_is_wider_than_either() -> None:
    home, away = Figure(0.9, 0.85, 0.94, 200, 200), Figure(0.8, 0.73, 0.86, 150, 150)
    low, high = difference_interval(home, away)
    assert low < -0.17 and -0.03 < high < -0.02
    assert difference_interval(home, home)[0] < 0 < difference_interval(home, home)[1]
