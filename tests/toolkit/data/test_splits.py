"""Splits: no group on two sides, every class on each, near the asked shares, the same for the same seed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from device_agent.contract.errors import BadInput
from toolkit.data.images import Dataset, joined, open_dataset
from toolkit.data.listing import SPLITS
from toolkit.data.splits import folds, split


def dataset(labels: list[int], groups: list[str], splits: list[str] | None = None) -> Dataset:
    names = [chr(ord("a") + label) for label in range(max(labels) + 1)]
    return Dataset(
        dir=Path("set"),
        files=[f"{place}.png" for place in range(len(labels))],
        labels=np.array(labels, np.int64),
        names=names,
        roles=["good"] + ["defect"] * (len(names) - 1),
        groups=np.array(groups),
        splits=None if splits is None else np.array(splits),
    )


def drawn(groups_of: list[int], seed: int = 0) -> Dataset:
    """A set in which class k has groups_of[k] groups of one to four images, in random order."""
    rng = np.random.default_rng(seed)
    rows = [
        (label, f"{label}-{group}")
        for label, count in enumerate(groups_of)
        for group in range(count)
        for _ in range(rng.integers(1, 5))
    ]
    order = rng.permutation(len(rows))
    return dataset([rows[place][0] for place in order], [rows[place][1] for place in order])


def check(data: Dataset, sides: np.ndarray) -> None:
    assert set(sides.tolist()) == set(SPLITS)
    for group in np.unique(data.groups):
        assert len(set(sides[data.groups == group].tolist())) == 1, group
    for name in SPLITS:
        assert set(data.labels[sides == name].tolist()) == set(range(len(data.names))), name


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(3, 40), min_size=2, max_size=6), st.integers(0, 5))
def test_every_class_with_three_groups_is_split(groups_of: list[int], seed: int) -> None:
    data = drawn(groups_of, seed)
    check(data, split(data, seed))


@pytest.mark.parametrize("small", [5, 30])
def test_a_group_far_larger_than_the_others_is_trained_on_whatever_the_seed(small: int) -> None:
    groups = ["coil"] * 80 + [f"good-{part}" for part in range(small)] + [f"pit-{part}" for part in range(6)]
    data = dataset([0] * (80 + small) + [1] * 6, groups)
    for seed in range(8):
        sides = split(data, seed)
        check(data, sides)
        assert sides[0] == "train"


def test_shares_come_near_those_asked_for_in_each_class() -> None:
    data = drawn([300, 120, 60])
    sides = split(data, 1)
    check(data, sides)
    for label in range(3):
        mine = sides[data.labels == label]
        shares = [float((mine == name).mean()) for name in SPLITS]
        assert np.allclose(shares, (0.7, 0.15, 0.15), atol=0.05), shares
    half = split(data, 1, shares=(0.5, 0.25, 0.25))
    assert np.allclose([(half == name).mean() for name in SPLITS], (0.5, 0.25, 0.25), atol=0.05)


def test_the_same_seed_gives_the_same_split_and_another_another() -> None:
    data = drawn([50, 50])
    assert np.array_equal(split(data, 3), split(data, 3))
    assert not np.array_equal(split(data, 3), split(data, 4))


def test_groups_of_several_classes_stay_whole() -> None:
    rng = np.random.default_rng(0)
    data = dataset(rng.integers(0, 3, 400).tolist(), [f"g{place // 8}" for place in range(400)])
    check(data, split(data, 0))


@pytest.mark.parametrize(("count", "words"), [(2, "'b' has 2 groups"), (1, "'b' has 1 group;")])
def test_a_class_with_too_few_groups_is_named(count: int, words: str) -> None:
    data = drawn([10, count])
    with pytest.raises(BadInput, match=f"a class has too few groups for the three splits: {words}"):
        split(data, 0)


def test_the_manifests_split_is_taken_as_it_is() -> None:
    given_split = ["train", "val", "test", "test", "val", "train"]
    data = dataset([0, 0, 0, 1, 1, 1], list("abcdef"), given_split)
    assert split(data, 0).tolist() == split(data, 99).tolist() == given_split


def test_a_manifests_split_that_leaks_or_lacks_a_class_is_refused() -> None:
    leaking = dataset([0, 0, 0, 1, 1, 1], list("aacdef"), ["train", "val", "test", "train", "val", "test"])
    with pytest.raises(BadInput, match="group 'a' is in both train and val"):
        split(leaking, 0)
    worse = dataset([0, 0, 0, 1, 1, 1], list("aabbcc"), ["train", "val", "test", "train", "val", "test"])
    with pytest.raises(BadInput, match=r"group 'a' is in .* \(3 groups are divided\)"):
        split(worse, 0)
    lacking = dataset([0, 0, 0, 1, 1, 1], list("abcdef"), ["train", "val", "test", "train", "val", "train"])
    with pytest.raises(BadInput, match="class 'b' has no image in the test split"):
        split(lacking, 0)


def test_equal_pixels_on_two_sides_of_the_manifests_split_are_named() -> None:
    given_split = ["train", "val", "test", "train", "val", "test"]
    data = dataset([0, 0, 0, 1, 1, 1], list("abcdef"), given_split)
    twins = joined(data, [b"1", b"2", b"3", b"4", b"1", b"5"])
    with pytest.raises(BadInput, match=r"0\.png in train and 4\.png in val have equal pixels"):
        split(twins, 0)
    assert split(joined(data, [b"1", b"2", b"3", b"1", b"4", b"5"]), 0).tolist() == given_split


def test_equal_pixels_stay_on_one_side_whatever_the_groups() -> None:
    data = drawn([30, 30])
    rng = np.random.default_rng(1)
    pixels = [bytes([rng.integers(120)]) for _ in range(len(data))]
    twins = joined(data, pixels)
    for seed in range(5):
        sides = split(twins, seed)
        side_of = dict(zip(pixels, sides.tolist(), strict=True))
        assert [side_of[each] for each in pixels] == sides.tolist()


def test_folds_hold_every_image_once_and_no_group_twice() -> None:
    data = drawn([40, 20, 10])
    fold = folds(data.labels, data.groups, 5, 0)
    assert set(fold.tolist()) == set(range(5))
    for group in np.unique(data.groups):
        assert len(set(fold[data.groups == group].tolist())) == 1
    counts = np.array([np.bincount(data.labels[fold == place], minlength=3) for place in range(5)])
    assert (counts > 0).all() and counts[:, 0].max() < 1.5 * counts[:, 0].min()
    assert np.array_equal(fold, folds(data.labels, data.groups, 5, 0))


def test_folds_that_cannot_be_dealt_are_refused() -> None:
    data = drawn([4, 4])
    for k in (1, 9):
        with pytest.raises(BadInput, match="folds must be 2 to"):
            folds(data.labels, data.groups, k, 0)
    lone = drawn([6, 1])
    with pytest.raises(BadInput, match="all images of class 1 are one group"):
        folds(lone.labels, lone.groups, 2, 0)


def test_xsdd_keeps_its_split_and_can_be_split_anew(data_dir: Path) -> None:
    data = open_dataset(data_dir / "xsdd")
    sides = split(data, 0)
    assert [int((sides == name).sum()) for name in SPLITS] == [975, 198, 187]
    anew = replace(data, splits=None)
    check(anew, split(anew, 0))
    assert 130 <= int((split(anew, 0) == "test").sum()) <= 270
