"""Risk among the surest answers: right at its ends, best and worst rankings, honest about few errors."""

from __future__ import annotations

import numpy as np
import pytest

from device_agent.contract.errors import BadInput
from toolkit.evaluation.selective import measure_risk, plot_risk


def curve(wrong: np.ndarray, doubt: np.ndarray, groups: np.ndarray | None = None):
    groups = np.arange(len(wrong)) if groups is None else groups
    return measure_risk(wrong, doubt, groups, rng=np.random.default_rng(0))


def test_a_perfect_doubt_keeps_every_error_to_the_end_and_a_reversed_one_gives_them_first():
    wrong = np.arange(100) >= 80
    perfect, reversed_ = curve(wrong, np.arange(100.0)), curve(wrong, -np.arange(100.0))
    assert perfect.auroc == 1 and reversed_.auroc == 0
    assert perfect.risk[39] == 0 and perfect.risk[-1] == pytest.approx(0.2)
    assert reversed_.risk[0] == 1
    assert perfect.aurc == pytest.approx(perfect.best)
    assert perfect.aurc < reversed_.aurc


def test_auroc_is_the_chance_that_an_error_is_doubted_more():
    rng = np.random.default_rng(1)
    wrong, doubt = rng.random(80) < 0.3, rng.integers(0, 6, 80).astype(float)
    pairs = doubt[wrong][:, None] - doubt[~wrong][None]
    assert curve(wrong, doubt).auroc == pytest.approx(np.mean((pairs > 0) + 0.5 * (pairs == 0)))


def test_equal_doubts_tell_nothing_whatever_the_order_of_the_images():
    wrong = np.arange(50) < 10
    for order in (slice(None), slice(None, None, -1)):
        flat = curve(wrong[order], np.zeros(50))
        assert flat.auroc == 0.5
        assert flat.risk == pytest.approx([0.2] * 50)


def test_errors_of_one_group_widen_the_band():
    wrong = np.arange(200) < 20
    doubt = np.random.default_rng(2).random(200)
    alone, together = curve(wrong, doubt), curve(wrong, doubt, np.arange(200) // 20)
    assert together.high[-1] - together.low[-1] > 1.5 * (alone.high[-1] - alone.low[-1])


def test_without_an_error_there_is_no_ranking_and_still_a_band():
    none = curve(np.zeros(40, bool), np.arange(40.0))
    assert none.auroc is None and none.auroc_interval is None
    assert none.risk[-1] == 0 < none.high[-1]


def test_no_answers_have_no_risk():
    with pytest.raises(BadInput, match="no answers"):
        curve(np.zeros(0, bool), np.zeros(0))


def test_the_plot_is_a_picture(tmp_path):
    plot_risk(tmp_path / "risk.png", {"confidence": curve(np.arange(20) > 15, np.arange(20.0))})
    assert (tmp_path / "risk.png").read_bytes()[:4] == b"\x89PNG"
