"""The learning rate rises to its peak and falls to nearly nothing."""

from __future__ import annotations

from toolkit.training.schedule import rate


def test_shape() -> None:
    rates = [rate(step, steps=100, warm_up=10, peak=0.01) for step in range(100)]
    assert max(rates) == 0.01 and rates.index(max(rates)) in (9, 10)
    assert rates[:10] == sorted(rates[:10]) and rates[10:] == sorted(rates[10:], reverse=True)
    assert 0 < rates[-1] < 1e-4 * 0.01 * 10


def test_no_warm_up_and_a_single_step() -> None:
    assert rate(0, steps=1, warm_up=0, peak=0.5) == 0.5
