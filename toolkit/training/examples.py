"""Labelled images of one split, and the batches that an epoch makes of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from device_agent.contract.manifest import InputSpec
from device_agent.preprocess import table
from toolkit.data.images import Dataset
from toolkit.data.pictures import Pictures, open_pictures
from toolkit.training.augment import Policy, vary
from toolkit.training.extra import Extra
from toolkit.training.judgement import Judge
from toolkit.training.mixing import draw_mix
from toolkit.training.recipe import Recipe
from toolkit.training.sampling import epoch_length, epoch_order
from toolkit.training.step import Batch
from toolkit.training.watch import Watch

Item = TypeVar("Item")


class Examples(NamedTuple):
    """`images` (n, h, w, channels) uint8, `labels` (n,) int64, `groups` (n,) str, `rows` (n,) int64 in the data set,
    and where an image may have several labels the `marks` (n, classes) bool."""

    images: Pictures
    labels: NDArray[np.int64]
    groups: NDArray[np.str_]
    rows: NDArray[np.int64]
    marks: NDArray[np.bool_] | None = None

    def targets(self, at: NDArray[np.integer], judge: Judge) -> NDArray[np.float32]:
        """What the loss wants of examples `at` (b,): (b, classes) float32."""
        return judge.targets(self.labels[at], None if self.marks is None else self.marks[at])


@contextmanager
def open_examples(
    dataset: Dataset, rows: NDArray[np.int64], spec: InputSpec, folder: Path, watch: Watch
) -> Iterator[Examples]:
    """The examples at `rows` of a data set, fitted to `spec`; what is more than the memory should hold lies in `folder`
    as long as the block is open."""

    def progress(done: int, total: int) -> None:
        watch.stage(f"reading {done} of {total} images")

    with open_pictures(dataset, spec, rows, folder=folder, progress=progress) as images:
        marks = None if dataset.marks is None else dataset.marks[rows]
        yield Examples(
            images, np.asarray(dataset.labels, np.int64)[rows], np.asarray(dataset.groups)[rows], rows, marks
        )


def policy_of(recipe: Recipe) -> Policy:
    """What the recipe allows to happen to an image."""
    return Policy(flips=recipe.flips, strength=recipe.rand_augment)


def steps_of(examples: Examples, recipe: Recipe) -> int:
    """Steps in an epoch; the last batch is filled up with images that come once more."""
    return max(1, math.ceil(epoch_length(examples.labels, recipe.sampling) / recipe.batch))


def batches(
    examples: Examples, recipe: Recipe, judge: Judge, epoch: int, extra: Extra | None = None
) -> Iterator[Batch]:
    """The batches of an epoch: order, variations and mixtures depend on the recipe's seed and the epoch only. They are
    made one ahead, while the step before is taken."""
    return _ahead(lambda: _batches(examples, recipe, judge, epoch, extra))


def _batches(examples: Examples, recipe: Recipe, judge: Judge, epoch: int, extra: Extra | None) -> Iterator[Batch]:
    rng = np.random.default_rng([recipe.seed, epoch])
    size, values = steps_of(examples, recipe) * recipe.batch, table(recipe.architecture.input_spec())
    order = epoch_order(examples.labels, recipe.sampling, rng, size=size, groups=examples.groups)
    views = views_of(order, epoch, recipe)
    for first in range(0, size, recipe.batch):
        at, view = order[first : first + recipe.batch], views[first : first + recipe.batch]
        images, given = _seen(examples, at, view, recipe, extra)
        targets = examples.targets(at, judge)
        mix = draw_mix(rng, len(at), recipe.mixup, recipe.cutmix, *images.shape[1:3])
        if mix is not None:
            images, targets = mix.images(images), mix.targets(targets)
        yield Batch(values[images], targets, given)


def views_of(order: NDArray[np.int64], epoch: int, recipe: Recipe) -> NDArray[np.int64]:
    """The variation in which each image of an epoch's `order` (size,) is shown: (size,). An image that comes several
    times shows another one each time.

    >>> views_of(np.array([5, 5, 7]), 2, Recipe(epochs=9, lr=0.1, patience=9, views=4)).tolist()
    [2, 3, 2]
    """
    by_row = np.argsort(order, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(order[by_row]) > 0])
    times = np.empty(len(order), np.int64)
    times[by_row] = np.arange(len(order)) - np.repeat(starts, np.diff(np.r_[starts, len(order)]))
    return (epoch + times) % recipe.views if recipe.views else epoch + times * (recipe.epochs + 1)


def _seen(
    examples: Examples, at: NDArray[np.int64], views: NDArray[np.int64], recipe: Recipe, extra: Extra | None
) -> tuple[NDArray[np.uint8], Mapping[str, NDArray[np.float32]]]:
    """Images `at` (b,) in their variations `views` (b,), and what `extra` gives for these."""
    images, policy = examples.images[at], policy_of(recipe)
    shapes = extra.shapes if extra is not None else {}
    given = {name: np.empty((len(at), *shape), np.float32) for name, shape in shapes.items()}
    for view in np.unique(views).tolist():
        here = np.flatnonzero(views == view)
        rows = examples.rows[at[here]]
        images[here] = vary(images[here], rows, seed=recipe.seed, view=view, policy=policy)
        for name, values in (extra(rows, view) if extra is not None else {}).items():
            given[name][here] = values
    return images, given


def _ahead(make: Callable[[], Iterator[Item]]) -> Iterator[Item]:
    """What an iterator gives, each made in another thread while the one before is used."""
    items, end = make(), object()
    with ThreadPoolExecutor(1) as pool:
        coming: Any = pool.submit(next, items, end)
        while (item := coming.result()) is not end:
            coming = pool.submit(next, items, end)
            yield item
