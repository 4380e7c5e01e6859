"""Slices of a column, the test of their gaps, and equalised odds."""

from __future__ import annotations

import numpy as np
import pytest

from device_agent.contract.errors import BadInput
from toolkit.evaluation.answers import Answers
from toolkit.evaluation.columns import slices_of
from toolkit.evaluation.fairness import equalised_odds
from toolkit.evaluation.figures import Judged
from toolkit.evaluation.metrics import softmax
from toolkit.evaluation.slices import holm, permutation_p, report_slices

NAMES = ["crack", "good"]


def answered(right: np.ndarray, groups: np.ndarray, labels: np.ndarray, **columns: list[str]) -> tuple[Judged, Answers]:
    logits = 4 * np.eye(2)[np.where(right, labels, 1 - labels)]
    names = groups.astype(str)
    files = [f"{row}.png" for row in range(len(labels))]
    judged = Judged(
        logits=logits,
        probabilities=softmax(logits),
        labels=labels,
        groups=names,
        names=NAMES,
        roles=["defect", "good"],
    )
    return judged, Answers(files, labels, names, logits.astype(np.float32), columns, None)


def parts(rng: np.random.Generator, groups: int = 80, worse: float = 0.0) -> tuple[Judged, Answers]:
    """Five images of each part; camera "b" is worse by so much, and the parts of one camera share their luck."""
    camera = np.repeat(np.where(np.arange(groups) % 2, "a", "b"), 5)
    share = rng.beta(9 * 0.15, 1 * 0.15, groups)
    right = rng.random(groups * 5) < np.repeat(share, 5) - worse * (camera == "b")
    labels = np.repeat(rng.integers(0, 2, groups), 5)
    group = np.arange(groups * 5) // 5
    return answered(
        right, group, labels, camera=camera.tolist(), noise=rng.integers(0, 3, groups * 5).astype(str).tolist()
    )


def test_a_camera_that_is_worse_is_found_and_named() -> None:
    judged, answers = parts(np.random.default_rng(0), 120, worse=0.3)
    camera, noise = report_slices(judged, answers, ["camera", "noise"])
    assert camera.p_holm is not None and camera.p_holm < 0.01 and camera.slices[0].value == "b"
    assert camera.gap == pytest.approx(camera.slices[1].figure.value - camera.slices[0].figure.value)
    assert "more than chance" in camera.verdict and "at b" in camera.verdict
    assert noise.p is not None and noise.p > 0.05


def test_parts_that_share_their_luck_give_no_false_alarms() -> None:
    rng = np.random.default_rng(1)
    by_group, by_image = [], []
    for _ in range(120):
        right, camera = np.repeat(rng.random(40) < 0.7, 5), np.repeat(np.arange(40) % 2, 5).astype(str)
        by_group.append(permutation_p(right, np.arange(200) // 5, camera, seed=0, draws=99))
        by_image.append(permutation_p(right, np.arange(len(right)), camera, seed=0, draws=99))
    assert np.mean(np.array(by_group, float) <= 0.05) <= 0.1
    assert np.mean(np.array(by_image, float) <= 0.05) > 0.15, "images of one part are not independent"


def test_a_column_that_varies_within_parts_is_shuffled_within_them() -> None:
    groups = np.repeat(np.arange(30), 2)
    lighting = np.array(["on", "off"] * 30)
    right = np.where(groups < 15, lighting == "on", True)
    assert permutation_p(right, groups, lighting, seed=0) == pytest.approx(1 / 2001)
    by_part = groups % 2 == 0
    assert permutation_p(by_part, groups, lighting, seed=0) == 1, "what differs between parts is not the lighting's"


def test_small_slices_are_flagged_and_take_no_part() -> None:
    labels, groups = np.ones(43, int), np.arange(43)
    camera = ["a"] * 20 + ["b"] * 20 + ["c"] * 3
    judged, answers = answered(np.arange(43) < 40, groups, labels, camera=camera)
    (report,) = report_slices(judged, answers, ["camera"])
    assert [one.enough for one in report.slices] == [True, True, False] and report.slices[-1].value == "c"
    assert report.gap == 0 and report.p == 1
    one_part = answered(np.arange(43) < 40, np.where(np.arange(43) < 20, 0, groups), labels, camera=camera)
    (report,) = report_slices(*one_part, ["camera"])
    assert report.p is None and "fewer than two" in report.verdict


def test_a_metric_is_divided_among_its_own_images() -> None:
    labels = np.arange(60) % 2
    right = np.where((labels == 0) & (np.arange(60) < 30), False, True)
    judged, answers = answered(right, np.arange(60), labels, camera=["a"] * 30 + ["b"] * 30)
    (report,) = report_slices(judged, answers, ["camera"], metric="recall.crack")
    assert [(one.value, one.figure.value, one.figure.images) for one in report.slices] == [("a", 0, 15), ("b", 1, 15)]
    assert report_slices(judged, answers, ["camera"], metric="defect-recall")[0].gap == 1
    with pytest.raises(BadInput, match=r"no share 'macro-f1' .*recall\.CLASS"):
        report_slices(judged, answers, ["camera"], metric="macro-f1")
    with pytest.raises(BadInput, match="no column 'lens' in the manifest; it has class, camera"):
        report_slices(judged, answers, ["lens"])


def test_holm_multiplies_by_what_is_left_and_never_falls() -> None:
    assert holm([0.03, 0.01, 0.02]) == pytest.approx([0.04, 0.03, 0.04])
    assert holm([0.9, None, 0.8]) == [1.0, None, 1.0]


def slices(values: list[str], column: str = "x", name: str = "x") -> list[str]:
    labels = np.zeros(len(values), int)
    return slices_of(answered(labels == 0, labels, labels, **{name: values})[1], NAMES, column).tolist()


def test_numbers_are_divided_by_quantile_and_few_of_them_are_names() -> None:
    assert slices([str(number) for number in range(1, 13)])[::4] == ["1 to 3.75", "3.75 to 6.5", "6.5 to 9.25"]
    assert len(set(slices([str(number) for number in range(1, 13)]))) == 4
    assert slices(["1", "2", "", "1"]) == ["1", "2", "(empty)", "1"]
    assert slices([*(str(number) for number in range(12)), ""])[-1] == "(empty)"


def test_times_are_divided_by_day_shift_and_hour() -> None:
    times = ["2026-11-22T05:59:00", "2026-11-22T06:00:00", "2026-11-23T15:30:00", ""]
    assert slices(times) == ["2026-11-22", "2026-11-22", "2026-11-23", "(empty)"]
    assert slices(times, "x:shift") == ["22:00 to 06:00", "06:00 to 14:00", "14:00 to 22:00", "(empty)"]
    assert slices(times, "x:hour")[:3] == ["05:00", "06:00", "15:00"]
    assert slices(["1700000000", "1700090000"], "time", "time") == ["2023-11-14", "2023-11-15"]
    with pytest.raises(BadInput, match="day, hour, shift, got 'week'"):
        slices(times, "x:week")
    with pytest.raises(BadInput, match="is no time"):
        slices(["red", "blue"], "x:day")


def test_a_column_of_a_different_value_each_image_is_refused() -> None:
    with pytest.raises(BadInput, match="101 different values"):
        slices([f"part-{number}" for number in range(101)])


def test_unequal_odds_are_found_and_put_into_one_sentence() -> None:
    labels = np.arange(400) % 2
    site = np.where(np.arange(400) < 200, "north", "south")
    right = np.where((labels == 0) & (site == "south"), np.arange(400) % 5 != 0, True)
    found = equalised_odds(*answered(right, np.arange(400), labels, site=site.tolist()), "site")
    true, false = found.rates
    assert true.difference is not None and true.difference.value == pytest.approx(0.2) == found.difference
    assert 0.05 < true.difference.low < 0.2 < true.difference.high < 0.35
    assert false.difference is not None and false.difference.value == 0 == false.difference.low
    assert found.verdict.startswith("site: the odds are not equal: true positive rate differs by 0.200")


def test_equal_odds_stay_equal_whatever_parts_do() -> None:
    rng, alarms, low = np.random.default_rng(3), 0, 0
    for _ in range(12):
        found = equalised_odds(*parts(rng, 60), "camera")
        alarms += "not equal" in found.verdict
        low += any(one.difference is not None and one.difference.low > 0 for one in found.rates)
    assert alarms <= 2 and low <= 3, (alarms, low)


def test_odds_of_too_few_images_are_not_judged() -> None:
    labels = np.arange(20) % 2
    found = equalised_odds(*answered(labels >= 0, np.arange(20), labels, site=["n"] * 17 + ["s"] * 3), "site")
    assert found.difference is None and "too few images" in found.verdict
