"""The other data is as stated: 30 to 1 by parts, several photographs of one part, which are alike and not equal."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from toolkit.data.images import Dataset, open_dataset

BENCHMARK = "unseen"


@pytest.fixture
def drawn(script: ModuleType, tmp_path: Path) -> Dataset:
    """What is drawn from an array file of as many parts as it takes."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(len(script.PARTS)), list(script.PARTS.values())).astype(np.uint8)
    images = rng.integers(60, 200, (len(labels), 40, 24)).astype(np.uint8)
    np.savez(tmp_path / "arrays.npz", images=images, labels=labels, classes=np.array(list(script.PARTS)))
    script.draw(tmp_path / "arrays.npz", tmp_path / "data")
    return open_dataset(tmp_path / "data")


def test_parts_are_thirty_to_one_and_have_several_photographs(script: ModuleType, drawn: Dataset) -> None:
    parts = {(drawn.names[label], group) for label, group in zip(drawn.labels, drawn.groups, strict=True)}
    assert Counter(name for name, _ in parts) == script.PARTS
    assert script.PARTS["No-Anomaly"] == 30 * min(script.PARTS.values())
    photos = Counter(drawn.groups)
    assert len(drawn) > 2.5 * len(photos) and 1 < max(photos.values()) <= script.MOST_PHOTOS


def test_no_part_is_on_two_sides_and_each_is_held_out_once(script: ModuleType, drawn: Dataset) -> None:
    sides = [script.folded.fold_split(drawn, fold, 0) for fold in script.FOLDS]
    for side in sides:
        of_group = {(group, each) for group, each in zip(drawn.groups, side, strict=True)}
        assert len(of_group) == len(set(drawn.groups))
    assert (np.sum([side == "test" for side in sides], axis=0) == 1).all()


def test_photographs_of_a_part_are_alike_but_not_equal(script: ModuleType) -> None:
    rng = np.random.default_rng(0)
    part = np.kron(rng.integers(60, 200, (5, 3)), np.ones((8, 8))).astype(np.uint8)
    one, two = (script.photograph(part, 0.0, rng).astype(float) for _ in range(2))
    assert (one != two).mean() > 0.5 and np.corrcoef(one.ravel(), two.ravel())[0, 1] > 0.8
