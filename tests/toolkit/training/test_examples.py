"""Batches hang on seed and epoch alone; an image that comes twice in an epoch shows two variations."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from toolkit.data.pictures import Pictures
from toolkit.models.architecture import Architecture
from toolkit.training.examples import Examples, batches, steps_of, views_of
from toolkit.training.judgement import Judge
from toolkit.training.recipe import Recipe
from toolkit.training.step import Batch

RECIPE = Recipe(architecture=Architecture(size=32), epochs=5, batch=4, lr=0.1, patience=5)
JUDGE = Judge("classes", ["good", "defect"])


def _examples(count: int = 10) -> Examples:
    images = np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3), np.uint8)
    labels = np.array([0] * (count - 2) + [1, 1])
    names = np.array([str(row) for row in range(count)])
    return Examples(Pictures(images.shape, images), labels, names, np.arange(100, 100 + count))  # type: ignore[arg-type]


def _epoch(recipe: Recipe, epoch: int, **more: object) -> list[Batch]:
    return list(batches(_examples(), recipe, JUDGE, epoch, **more))  # type: ignore[arg-type]


def test_an_epoch_can_be_had_again_and_the_next_is_another() -> None:
    one, again, other = _epoch(RECIPE, 1), _epoch(RECIPE, 1), _epoch(RECIPE, 2)
    assert len(one) == steps_of(_examples(), RECIPE) == 3
    assert all(np.array_equal(a.images, b.images) for a, b in zip(one, again, strict=True))
    assert not np.array_equal(one[0].images, other[0].images)
    assert one[0].images.dtype == np.float32 and np.abs(one[0].images).max() <= 1
    assert sum(batch.targets[:, 1].sum() for batch in one) >= 2


def test_with_few_views_the_variations_come_again() -> None:
    recipe = msgspec.structs.replace(RECIPE, views=2)
    pictures = [{image.tobytes() for batch in _epoch(recipe, epoch) for image in batch.images} for epoch in range(1, 5)]
    assert len(pictures[0] & pictures[2]) >= 10 and len(set.union(*pictures)) <= 20
    fresh = [{image.tobytes() for batch in _epoch(RECIPE, epoch) for image in batch.images} for epoch in (1, 3)]
    assert not fresh[0] & fresh[1]


def test_an_image_that_comes_often_comes_in_other_variations() -> None:
    order = np.array([3, 5, 3, 3])
    assert len({view for view, row in zip(views_of(order, 2, RECIPE).tolist(), order, strict=True) if row == 3}) == 3
    views = {int(view) for epoch in range(1, 6) for view in views_of(order, epoch, RECIPE)[order == 3]}
    assert len(views) == 15, "no other epoch shows them again"
    oversampled = msgspec.structs.replace(RECIPE, sampling="oversample")
    rare = [image.tobytes() for batch in _epoch(oversampled, 1) for image in batch.images[batch.targets[:, 1] == 1]]
    assert len(rare) == 8 and len(set(rare)) == 8


def test_mixtures_have_mixed_targets() -> None:
    mixed = _epoch(msgspec.structs.replace(RECIPE, mixup=1.0), 1)
    targets = np.concatenate([batch.targets for batch in mixed])
    assert np.allclose(targets.sum(axis=1), 1) and ((targets > 0.01) & (targets < 0.99)).any()


class _Extra:
    shapes = {"teacher": (2,)}
    variables: list[object] = []

    def __init__(self) -> None:
        self.asked: list[tuple[list[int], int]] = []

    def __call__(self, rows: np.ndarray, view: int) -> dict[str, np.ndarray]:
        self.asked.append((rows.tolist(), view))
        return {"teacher": np.stack([rows, np.full(len(rows), view)], axis=1).astype(np.float32)}


def test_extra_targets_are_those_of_row_and_view() -> None:
    extra, recipe = _Extra(), msgspec.structs.replace(RECIPE, views=3)
    given = np.concatenate([batch.given["teacher"] for batch in _epoch(recipe, 4, extra=extra)])
    assert set(given[:, 0]) == set(range(100, 110)), "rows are those of the data set"
    assert given.shape == (12, 2) and set(given[:10, 1]) == {1.0}, "epoch 4 of 3 views shows view 1"


def test_what_goes_wrong_while_a_batch_is_made_is_raised() -> None:
    class Broken(_Extra):
        def __call__(self, rows: np.ndarray, view: int) -> dict[str, np.ndarray]:
            raise OSError("the cache is gone")

    with pytest.raises(OSError, match="cache is gone"):
        _epoch(RECIPE, 1, extra=Broken())
