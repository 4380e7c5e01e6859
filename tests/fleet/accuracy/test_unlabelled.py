"""Counts alone: right where their assumptions hold, doubtful where they do not, and honest about recall."""

from __future__ import annotations

import numpy as np
import pytest

from device_agent.contract.errors import BadInput
from device_agent.contract.histogram import BINS
from device_agent.contract.manifest import Baseline, Label
from fleet.accuracy.unlabelled import estimate, mean_confidence
from fleet.accuracy.validation import Validation


def line(validation: Validation, prevalence: tuple[float, float], frames: int, rng: np.random.Generator) -> np.ndarray:
    """Counts [true, predicted, bin] of a line whose classes look as in validation."""
    share = (np.array(prevalence)[:, None] * validation.given()).ravel()
    return rng.multinomial(frames, share).reshape(2, 2, BINS)


def look(validation: Validation, seen: np.ndarray, seed: int = 0, independent: float | None = None):
    return estimate(validation, seen, independent or float(seen.sum()), np.random.default_rng(seed))


@pytest.mark.parametrize("defects", [0.05, 0.1, 0.2])
def test_a_line_of_other_shares_is_estimated_by_em_and_bbse(validation, defects):
    counts = line(validation, (1 - defects, defects), 20_000, np.random.default_rng(1))
    found = look(validation, counts.sum(axis=0))
    table = counts.sum(axis=2)
    truth = (table[0, 0] + table[1, 1]) / table.sum()
    values = {one.method: one.interval.value for one in found.estimates if one.figure == "accuracy"}
    assert len({round(value, 4) for value in values.values()}) > 1, "methods that cannot differ show nothing"
    assert abs(values["em"] - truth) < 0.01 and abs(values["bbse"] - truth) < 0.01
    assert found.prevalence["scratch"].low <= defects <= found.prevalence["scratch"].high
    assert found.judged("accuracy").interval.low <= truth <= found.judged("accuracy").interval.high
    assert found.strange.low == 0


def test_answers_that_are_less_sure_lower_what_cbpe_and_atc_say(validation):
    usual = line(validation, (0.9, 0.1), 20_000, np.random.default_rng(2)).sum(axis=0)
    unsure = usual.copy()
    unsure[1, 4] += usual[0, 12] // 4
    unsure[0, 12] -= usual[0, 12] // 4
    said = [
        {one.method: one.interval.value for one in look(validation, seen).estimates if one.figure == "accuracy"}
        for seen in (usual, unsure)
    ]
    for method in ("cbpe", "atc"):
        assert said[1][method] < said[0][method] - 0.01
    assert mean_confidence(unsure) < mean_confidence(usual)


def test_frames_like_no_class_are_not_identified_and_may_all_be_wrong(validation):
    seen = line(validation, (0.98, 0.02), 20_000, np.random.default_rng(3)).sum(axis=0)
    strange = seen.copy()
    strange[0, 1] += 2_000
    found = look(validation, strange)
    assert found.judged("accuracy").badge == found.judged("recall", "defect").badge == "not identified"
    assert found.strange.low <= 2_000 / 22_000 <= found.strange.high + 0.01
    before = look(validation, seen)
    assert before.judged("accuracy").badge == "identified"
    assert found.judged("accuracy").interval.low < before.judged("accuracy").interval.low - 0.05


def test_a_blind_model_leaves_the_counts_of_a_good_line_and_recall_says_so(validation):
    """Nine of ten defects are taken for sure good parts: no count can tell, so the limits have to hold the truth."""
    rng = np.random.default_rng(4)
    counts = line(validation, (0.98, 0.02), 20_000, rng)
    lost = rng.binomial(counts[1, 1], 0.9)
    counts[1, 1] -= lost
    counts[1, 0, 16] += lost.sum()
    found = look(validation, counts.sum(axis=0)).judged("recall", "defect")
    truth = counts[1, 1].sum() / counts[1].sum()
    assert truth < 0.1 < found.interval.value, "the estimate itself overstates it"
    assert found.interval.low <= truth and found.badge == "needs labels"
    assert "missed from defects that are not made" in found.why


def test_correlated_frames_widen_the_limits(validation):
    seen = line(validation, (0.98, 0.02), 20_000, np.random.default_rng(5)).sum(axis=0)
    wide, narrow = look(validation, seen, independent=500.0), look(validation, seen)
    assert wide.prevalence["scratch"].width > 1.5 * narrow.prevalence["scratch"].width
    assert wide.judged("accuracy").interval.width > narrow.judged("accuracy").interval.width
    assert look(validation, seen, independent=50.0).judged("accuracy").badge == "needs labels"


def test_recall_is_not_identified_by_a_line_whose_share_of_defects_nobody_stated(baseline):
    unstated = Baseline(classes=2, cells=baseline.cells)
    validation = Validation.of([Label("good", "good"), Label("scratch", "defect")], unstated)
    seen = line(validation, (0.9, 0.1), 20_000, np.random.default_rng(6)).sum(axis=0)
    found = look(validation, seen).judged("recall", "defect")
    assert (found.badge, found.why) == ("needs labels", "the share of defects on the line was never stated")


def test_limits_hold_the_truth_about_as_often_as_they_say(validation):
    rng, held = np.random.default_rng(7), []
    for seed in range(60):
        counts = line(validation, (0.93, 0.07), 1_000, rng)
        table = counts.sum(axis=2)
        found = look(validation, counts.sum(axis=0), seed).judged("accuracy").interval
        held.append(found.low <= (table[0, 0] + table[1, 1]) / table.sum() <= found.high)
    assert np.mean(held) >= 0.85


def test_several_classes_have_recall_and_precision_of_their_own():
    counts = np.zeros((3, 3, BINS), np.int64)
    for true in range(3):
        counts[true, true, [5, 15]] = (30, 60)
        counts[true, (true + 1) % 3, 5] = 10
    labels = [Label("good", "good"), Label("scratch", "defect"), Label("dent", "defect")]
    validation = Validation.of(labels, Baseline.of(counts, [0.8, 0.1, 0.1]))
    seen = np.random.default_rng(8).multinomial(9_000, validation.line_shares()).reshape(3, BINS)
    found = look(validation, seen)
    assert {(one.figure, one.of) for one in found.judgements} == {
        ("accuracy", ""),
        *((figure, of) for figure in ("recall", "precision") for of in ("defect", "good", "scratch", "dent")),
    }  # fmt: skip
    assert found.judged("recall", "scratch").interval.value == pytest.approx(0.9, abs=0.03)
    assert found.judged("recall", "defect").interval.value > found.judged("recall", "dent").interval.value


def test_many_classes_are_merged_to_good_and_defect():
    rng = np.random.default_rng(9)
    counts = np.zeros((40, 40, BINS), np.int64)
    for true in range(40):
        counts[true, true, 12], counts[true, (true + 7) % 40, 4] = 40, rng.integers(1, 9)
    labels = [Label(f"c{k}", "good" if k < 20 else "defect") for k in range(40)]
    validation = Validation.of(labels, Baseline.of(counts, [1 / 40] * 40))
    assert validation.names == ("good", "defect") and validation.number("c30") == 1
    assert validation.fold_cell(30 * BINS + 4) == BINS + 4 and validation.fold_cell(40 * BINS) is None
    found = look(validation, counts.sum(axis=0))
    merged = counts.reshape(2, 20, 2, 20, BINS).sum(axis=(1, 3, 4))
    truth = np.trace(merged) / merged.sum()
    assert found.judged("accuracy").interval.low <= truth <= found.judged("accuracy").interval.high


@pytest.mark.parametrize(
    ("seen", "independent"),
    [
        (np.zeros((2, BINS), int), 1.0),
        (np.ones((2, BINS), int), 0.0),
        (np.ones((2, BINS), int), 1e9),
        (np.ones((3, BINS), int), 9.0),
    ],
)
def test_counts_that_say_nothing_are_refused(validation, seen, independent):
    with pytest.raises(BadInput):
        estimate(validation, seen, independent, np.random.default_rng(0))


def test_a_model_that_decides_nothing_is_refused(baseline):
    with pytest.raises(BadInput, match="decides nothing"):
        look(Validation.of([Label("a", "good"), Label("b", "good")], baseline), np.ones((2, BINS), int))
    with pytest.raises(BadInput, match="no validation counts"):
        Validation.of([Label("a", "good"), Label("b", "defect")], Baseline(classes=2, cells=[]))
