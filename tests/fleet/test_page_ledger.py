"""The ledger: exact intervals, and a promise that is said to hold only where the counts say so."""

from __future__ import annotations

import math

import numpy as np
import pytest

from device_agent.contract.alert import Alert
from fleet.acknowledgements import Judgement
from fleet.alert_store import Change, write_changes
from fleet.page_ledger import WEEK_MS, keep_page_ledger, poisson_interval, read_dial, tally, write_dial


def page(number, at_ms=0, **changes):
    return Alert(**{"id": f"p{number}", "severity": "page", "scope_kind": "device", "scope": "cam-1", "site": "hall",
                    "model": "", "stream": "low+", "opened_ms": at_ms, "onset_ms": at_ms, "updated_ms": at_ms,
                    "paged_ms": at_ms, "text": "", **changes})  # fmt: skip


def ledger(pages, false, real, weeks, promised=1.0):
    judged = [(k, False) for k in range(false)] + [(false + k, True) for k in range(real)]
    verdicts = {f"p{k}": Judgement(f"p{k}", 0, "ann", kind, "") for k, kind in judged}
    found = [page(k, k) for k in range(pages)]
    return tally(found, verdicts, from_ms=0, to_ms=weeks * WEEK_MS, promised=promised)


@pytest.mark.parametrize("count", [0, 1, 3, 10, 150, 4000])
def test_the_interval_leaves_a_fortieth_on_either_side(count):
    low, high = poisson_interval(count)

    def at_most(most, mean):
        return math.fsum(math.exp(k * math.log(mean) - mean - math.lgamma(k + 1)) for k in range(most + 1))

    assert at_most(count, high) == pytest.approx(0.025, abs=1e-6)
    assert low == 0 if count == 0 else 1 - at_most(count - 1, low) == pytest.approx(0.025, abs=1e-6)


def test_the_interval_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(5)
    intervals = {k: poisson_interval(k) for k in range(40)}
    covered = [low <= 4.2 <= high for low, high in (intervals[k] for k in rng.poisson(4.2, 4000))]
    assert np.mean(covered) >= 0.94


def test_the_promise_holds_only_where_even_the_unjudged_leave_room():
    assert ledger(0, 0, 0, weeks=3).holds is None, "three weeks of silence prove nothing at 1 a week"
    assert ledger(0, 0, 0, weeks=4).holds is True
    assert ledger(10, 1, 9, weeks=20).holds is True
    assert ledger(30, 1, 9, weeks=20).holds is None and "20 pages are not judged" in ledger(30, 1, 9, weeks=20).verdict
    broken = ledger(20, 20, 0, weeks=4)
    assert broken.holds is False and "does not hold" in broken.verdict and broken.low > 1


def test_what_counts_is_a_page_that_people_were_told_of(plant):
    engine = plant.open(places={"cam-1": ("hall", "tin")})
    pages = [
        page(1, 100),
        page(2, 200, severity="warn", paged_ms=None),
        page(3, 300, inhibited_by="p4"),
        page(4, 250, scope_kind="site", scope="hall"),
        page(5, 240, inhibited_by="p4"),
        page(6, 400, stream="silent"),
        page(7, 500, stream="frozen", severity="critical", closed_ms=600),
    ]
    with engine.begin() as tx:
        write_changes(tx, [Change(each, "opened") for each in pages])
        write_dial(tx, 0.5, 0)
        write_dial(tx, 0.5, 10)
        found = keep_page_ledger(tx, 1000, since_ms=0)
        assert (found.pages, found.promised, read_dial(tx)) == (4, 0.5, 0.5), "p1, p4, p5 (before its cover), p7"
        assert keep_page_ledger(tx, 1000, since_ms=0, promised=2.0).promised == 2.0
