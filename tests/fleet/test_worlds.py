import math

import numpy as np
import pytest

from device_agent.contract.errors import BadInput
from fleet.trials import summarise, try_detector, upper_bound
from fleet.worlds import FAULTS, World, components, simulate


def one_day(seed, fault="none", **options):
    return next(simulate(World(**options), 1, np.random.default_rng(seed), fault=fault))


def test_a_seed_gives_the_same_day_and_another_gives_another():
    first, again, other = one_day(1, devices=2), one_day(1, devices=2), one_day(2, devices=2)
    np.testing.assert_array_equal(first.counts, again.counts)
    assert (first.counts != other.counts).any()


@pytest.mark.parametrize(("frames", "dwell"), [(60, 2.0), (600, 2.0), (600, 10.0), (600, None)])
def test_minutes_hold_all_frames_and_their_spread_shows_the_dwell(frames, dwell):
    world = World(devices=6, frames=frames, dwell_s=dwell, restless=False)
    day = next(simulate(world, 1, np.random.default_rng(3)))
    assert (day.counts.sum(axis=2) == frames).all()
    rho = math.exp(-60 / frames / dwell) if dwell else 0.0
    shares = day.counts.sum(axis=(1)) / day.counts.sum(axis=(1, 2))[:, None]
    agree = (shares**2).sum(axis=1)
    same = day.same.mean(axis=1) / (frames - 1)
    np.testing.assert_allclose(same, rho + (1 - rho) * agree, atol=0.01)
    bulk = day.counts[:, :, 15:24].sum(axis=2)
    p = bulk.mean(axis=1) / frames
    phi = (bulk.var(axis=1) / (frames * p * (1 - p))).mean()
    window_s = 60 / (dwell or 1)
    limit = (1 + rho) / (1 - rho) * (1 - (1 - math.exp(-window_s)) / window_s if dwell else 1)
    assert phi == pytest.approx(limit, rel=0.12)


def test_faults_do_what_they_say():
    def shares(fault):
        day = one_day(4, fault, devices=10, restless=False)
        return day.counts.sum(axis=(0, 1)).reshape(2, 24) / day.counts.sum()

    base = shares("none")
    assert base[1].sum() == pytest.approx(0.0092, rel=0.3)
    assert shares("defects3")[1].sum() > 1.8 * base[1].sum()
    assert shares("blind")[1].sum() < 0.4 * base[1].sum()
    assert shares("ood20")[:, :8].sum() > 0.15 > 3 * base[:, :8].sum()
    assert shares("bulk")[0, :13].sum() > 2 * base[0, :13].sum()
    frozen = one_day(4, "frozen", devices=2)
    assert (frozen.counts.max(axis=2) == 600).all() and (frozen.identical == 599).all()
    assert components().shape == (6, 48) and len(FAULTS) == 10
    with pytest.raises(BadInput, match="unknown fault"):
        one_day(1, "flood")


def test_the_upper_bound_is_exact():
    assert upper_bound(0, 1) == pytest.approx(-math.log(0.05), rel=1e-6)
    assert upper_bound(1, 1) == pytest.approx(4.7439, abs=1e-3)


def test_a_day_of_a_small_fleet_is_quiet_and_strange_frames_are_found():
    trial = try_detector(World(devices=6), 12, fault="ood5", days=2, reference_days=1)
    assert trial.early_warns == trial.early_pages == trial.early_frozen == 0 < trial.healthy_minutes
    cell = summarise("ood5", trial, 1)
    assert cell.page_share == 1 and cell.page_median_min is not None and 3 < cell.page_median_min < 120


@pytest.mark.slow
def test_the_table_holds_on_other_seeds():
    quiet = try_detector(World(sites=2), 77, days=5)
    assert (quiet.early_pages, quiet.early_frozen) == (0, 0) and quiet.early_warns <= 1
    for fault, days, limit in (
        ("ood1", 3, 1268),
        ("ood5", 1, 50),
        ("blind", 2, 466),
        ("bulk", 1, 39),
        ("frozen", 1, 7),
    ):
        trial = try_detector(World(), 78, fault=fault, days=days + 1)
        cell = summarise(fault, trial, days)
        assert cell.page_share > 0.5 and cell.page_median_min is not None and cell.page_median_min < limit, fault
