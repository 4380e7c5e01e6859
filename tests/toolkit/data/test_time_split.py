"""Splits by time: earlier images train, later ones test, no group is divided, and what cannot be ordered is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from device_agent.contract.errors import BadInput
from toolkit.data.images import Dataset
from toolkit.data.time_split import split_by_time


def dataset(labels: list[int], groups: list[str], times: list[str]) -> Dataset:
    return Dataset(
        dir=Path("set"),
        files=[f"{place}.png" for place in range(len(labels))],
        labels=np.array(labels, np.int64),
        names=["good", "pit"],
        roles=["good", "defect"],
        groups=np.array(groups),
        columns={"time": times},
    )


def day(number: int) -> str:
    return f"2026-{1 + number // 28:02d}-{1 + number % 28:02d}"


def plain(count: int = 40) -> Dataset:
    return dataset(
        [place % 2 for place in range(count)], [f"g{place}" for place in range(count)], list(map(day, range(count)))
    )


def test_earlier_images_train_and_later_ones_test_in_the_shares_asked_for() -> None:
    data = plain()
    order = np.random.default_rng(0).permutation(40)
    sides, periods = split_by_time(data.only(order), (0.6, 0.2, 0.2))
    assert sides[np.argsort(order)].tolist() == ["train"] * 24 + ["val"] * 8 + ["test"] * 8
    assert [(period.side, period.first[:10], period.last[:10], period.images) for period in periods] == [
        ("train", day(0), day(23), 24),
        ("val", day(24), day(31), 8),
        ("test", day(32), day(39), 8),
    ]


def test_a_group_stands_where_its_last_image_does() -> None:
    data = plain()
    data = replace(data, groups=np.where(np.isin(np.arange(40), [2, 30]), "long", data.groups))
    sides, periods = split_by_time(data, (0.6, 0.2, 0.2))
    assert sides[2] == sides[30] == "val"
    assert periods[0].last < periods[1].last and periods[1].first[:10] == day(2)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(3, 60), st.integers(1, 40))
def test_nothing_in_train_is_later_than_the_cut_and_no_group_is_divided(seed: int, count: int, days: int) -> None:
    rng = np.random.default_rng(seed)
    moments = rng.integers(0, days, count)
    groups = rng.integers(0, count, count).astype(str)
    data = dataset(rng.integers(0, 2, count).tolist(), groups.tolist(), [day(int(moment)) for moment in moments])
    try:
        sides, periods = split_by_time(data)
    except BadInput as error:
        assert "needs three" in str(error) or "would have no image of" in str(error)
        return
    ends = np.array([moments[groups == group].max() for group in groups])
    assert ends[sides == "train"].max() < ends[sides == "val"].min()
    assert ends[sides == "val"].max() < ends[sides == "test"].min()
    assert all(len(set(sides[groups == group])) == 1 for group in groups)
    assert [period.images for period in periods] == [int((sides == period.side).sum()) for period in periods]


def test_a_class_that_would_be_missing_is_named_with_its_side() -> None:
    late = replace(plain(), labels=np.repeat([0, 1], 20))
    said = r"train would have no image of 'pit'; test would have no image of 'good'; take other --shares"
    with pytest.raises(BadInput, match=said):
        split_by_time(late, (0.4, 0.3, 0.3))


def test_groups_that_end_at_one_time_stand_together() -> None:
    data = replace(plain(12), columns={"time": [day(place // 4) for place in range(12)]})
    sides, _ = split_by_time(data)
    assert sides.tolist() == ["train"] * 4 + ["val"] * 4 + ["test"] * 4
    with pytest.raises(BadInput, match="the groups end at 2 different times of column 'time'"):
        split_by_time(replace(data, columns={"time": [day(place // 6) for place in range(12)]}))


@pytest.mark.parametrize(
    ("times", "message"),
    [
        ({"when": ["2026-01-01"] * 12}, "no column 'time' of times; it has when"),
        ({}, "no column 'time' of times; it has no further column"),
        ({"time": ["2026-01-01", "", *["2026-01-02"] * 9, ""]}, "2 of 12 images have no time, first 1.png"),
        ({"time": ["2026-01-01"] * 11 + ["soon"]}, "11.png: time 'soon' is no time"),
        ({"time": ["2026-01-01"] * 11 + ["2026-01-01T00:00Z"]}, "they have no common order"),
    ],
)
def test_times_that_do_not_order_the_images_are_one_clear_line(times: dict[str, list[str]], message: str) -> None:
    with pytest.raises(BadInput, match=message) as error:
        split_by_time(replace(plain(12), columns=times))
    assert "\n" not in str(error.value)
