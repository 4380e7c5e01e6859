"""Weights of a run that knows the images which a training is judged on are refused, as such a teacher is."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest

from device_agent.contract.errors import BadInput
from toolkit.data.images import Dataset, open_dataset
from toolkit.models.architecture import Architecture
from toolkit.runs import Run, write_record
from toolkit.training.leaks import weights_notes
from toolkit.training.recipe import make_recipe
from toolkit.training.trainer import train


@pytest.fixture
def dataset(tiny_run: Run) -> Dataset:
    """The images that the run was trained on."""
    return open_dataset(tiny_run.record.data)


def _turned(dataset: Dataset) -> np.ndarray:
    """Another split: what was trained on is the test split now."""
    assert dataset.splits is not None
    return np.select([dataset.splits == "train", dataset.splits == "test"], ["test", "train"], dataset.splits)


def test_weights_of_a_run_under_the_same_split_are_taken(tiny_run: Run, dataset: Dataset) -> None:
    assert dataset.splits is not None
    assert weights_notes(str(tiny_run.model_path), dataset, dataset.splits) == []


def test_a_training_from_weights_that_saw_its_test_images_is_refused_before_it_begins(
    tiny_run: Run, dataset: Dataset, tmp_path: Path
) -> None:
    weights = str(tiny_run.model_path)
    recipe = make_recipe(Architecture(size=32), weights=weights)
    with pytest.raises(BadInput, match=r"was taught on 30 images, or on parts, of this training's test split, first "):
        train(dataset, _turned(dataset), tmp_path / "new", recipe, weights=weights)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("weights", [None, "imagenet"])
def test_no_weights_and_those_of_imagenet_know_nothing(weights: str | None, dataset: Dataset) -> None:
    assert weights_notes(weights, dataset, _turned(dataset)) == []


def test_a_file_that_lies_in_no_run_tells_nothing(tiny_run: Run, dataset: Dataset, tmp_path: Path) -> None:
    shutil.copy(tiny_run.model_path, tmp_path / "weights.keras")
    assert weights_notes(str(tmp_path / "weights.keras"), dataset, _turned(dataset)) == []


def test_what_cannot_be_compared_is_said(tiny_run: Run, dataset: Dataset, tmp_path: Path) -> None:
    assert dataset.splits is not None
    write_record(tiny_run.dir, msgspec.structs.replace(tiny_run.record, data=str(tmp_path / "gone")))
    (note,) = weights_notes(str(tiny_run.model_path), dataset, dataset.splits)
    assert "cannot be found out" in note
