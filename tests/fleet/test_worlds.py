import math

import numpy as np
import pytest

from device_agent.contract.errors import BadInput
from fleet.trials import summarise, try_detector, upper_bound
from fleet.worlds import FAULTS, MEANING, WORLDS, World, classifier, components, simulate, simulate_sites, site_rng
from fleet.worlds.sampler import AliasTables, Camera


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
    assert components().shape == (6, 48) and set(MEANING) == set(FAULTS)
    with pytest.raises(BadInput, match="unknown fault"):
        one_day(1, "flood")


def frame_by_frame(weights, shares, frames, rho, rng):
    """The process as it is told: a frame stays in the cell of the one before it, or is drawn anew."""
    out, same, cell = np.zeros((len(weights), shares.shape[1]), np.int64), np.zeros(len(weights), np.int64), -1
    ladders = np.cumsum(weights @ shares, axis=1)
    for minute, ladder in enumerate(ladders):
        for frame in range(frames):
            before = cell
            if cell < 0 or rng.random() >= rho:
                cell = min(int(np.searchsorted(ladder, rng.random(), side="right")), len(ladder) - 1)
            out[minute, cell] += 1
            same[minute] += frame > 0 and cell == before
    return out, same


def figures(counts, same, masks):
    """Mean, variance and correlation with the next minute of the events of each mask, and of the pairs."""
    events = np.column_stack([counts @ masks.T, same]).astype(float)
    left, right = events[:-1] - events.mean(axis=0), events[1:] - events.mean(axis=0)
    return events.mean(axis=0), events.var(axis=0), (left * right).mean(axis=0) / events.var(axis=0)


@pytest.mark.parametrize(("frames", "dwell"), [(6, 20.0), (30, 2.0), (20, None)])
def test_runs_have_the_law_of_frames_drawn_one_by_one(frames, dwell, monkeypatch):
    monkeypatch.setattr("fleet.worlds.sampler.RUNS_AT_ONCE", 700)
    rho = math.exp(-60 / frames / dwell) if dwell else 0.0
    minutes, shares = 240_000 // frames, classifier().shares
    weights = np.tile([0.30, 0.20, 0.15, 0.15, 0.20, 0.0], (minutes, 1))
    bins = np.arange(48)
    masks = np.array([bins >= 24, bins % 24 < 8, (bins < 24) & (bins >= 14)], float)
    slow = figures(*frame_by_frame(weights, shares, frames, rho, np.random.default_rng(11)), masks)
    camera = Camera(AliasTables(shares), frames, rho, np.random.default_rng(12))
    fast = figures(*camera.minutes(weights), masks)
    assert min(slow[1]) > 0.1, "the events spread"
    np.testing.assert_allclose(fast[0], slow[0], rtol=0.03)
    np.testing.assert_allclose(fast[1], slow[1], rtol=0.07)
    np.testing.assert_allclose(fast[2], slow[2], atol=0.04)
    if dwell == 20.0:
        assert min(fast[2][:3]) > 0.15, "runs go on from minute to minute, and from block to block"


def test_alias_tables_draw_each_cell_with_its_share():
    shares = np.array([[0.5, 0.0, 0.3, 0.2], [0.0, 1.0, 0.0, 0.0]])
    drawn = AliasTables(shares).draw(np.repeat(np.array([0, 1], np.int32), 40_000), np.random.default_rng(5))
    found = np.bincount(drawn[:40_000], minlength=4) / 40_000
    np.testing.assert_allclose(found, shares[0], atol=0.01)
    assert found[1] == 0 and (drawn[40_000:] == 1).all()


def test_a_site_is_the_same_alone_and_among_others():
    world, rngs = World(devices=2), [site_rng(9, site) for site in range(3)]
    together = list(simulate_sites(world, 2, rngs, fault="bulk", onset=700))
    alone = list(simulate_sites(world, 2, [site_rng(9, 1)], fault="bulk", onset=700))
    for all_sites, one in zip(together, alone, strict=True):
        np.testing.assert_array_equal(all_sites.counts[2:4], one.counts)
        np.testing.assert_array_equal(all_sites.same[2:4], one.same)
    assert (together[0].counts[0] != together[0].counts[2]).any()


def test_ten_classes_are_confused_and_their_shares_can_turn_round():
    model = classifier(10)
    np.testing.assert_allclose(model.joint.sum(axis=(1, 2)), 1)
    called = model.joint[model.defects[0]].reshape(10, 10, 24).sum(axis=2)[1]
    assert called[1] > 0.85 > 0.1 > called[2] > 0.04 > called[3]
    calm = World(classes=10, restless=False, devices=10)

    def by_class(fault):
        day = next(simulate(calm, 1, np.random.default_rng(3), fault=fault))
        return day.counts.sum(axis=(0, 1)).reshape(10, 24).sum(axis=1) / day.counts.sum()

    base, turned = by_class("none"), by_class("labels")
    assert base[1] > 2 * base[9] and turned[9] > 5 * base[9]
    assert turned[1:].sum() == pytest.approx(base[1:].sum(), rel=0.1)
    with pytest.raises(BadInput, match="several defect classes"):
        next(simulate(World(), 1, np.random.default_rng(1), fault="labels"))


def test_an_int8_artifact_answers_in_steps_beside_an_exact_one():
    day = next(simulate(World(devices=4, int8=0.5, restless=False), 1, np.random.default_rng(2)))
    bulk = day.counts.sum(axis=1)[:, 8:20].astype(float)
    rough = np.abs(np.diff(np.log(bulk), 2)).mean(axis=1)
    assert rough[:2].min() > 1.5 * rough[2:].max(), "a bin of 0.5 holds one step of 0.375, or two"


def test_nights_batches_and_a_failing_lamp_show_at_their_hours():
    night, day_hours = slice(0, 360), slice(480, 1200)

    def less_sure(fault="none", **options):
        counts = next(simulate(World(devices=10, **options), 1, np.random.default_rng(8), fault=fault)).counts.astype(
            float
        )
        return counts[:, night, :12].mean(), counts[:, day_hours, :12].mean()

    dark, light = less_sure("lamp", restless=False)
    assert dark > 1.5 * light
    quiet = next(simulate(World(devices=4), 2, np.random.default_rng(4))).counts[..., 24:].sum(axis=2)
    moved = next(simulate(World(devices=4, batches=0.8), 2, np.random.default_rng(4))).counts[..., 24:].sum(axis=2)
    hours = [part.reshape(4, 24, 60).sum(axis=2) for part in (quiet, moved)]
    spread = [(part.std(axis=1) / part.mean(axis=1)).mean() for part in hours]
    assert spread[1] > 1.3 * spread[0]
    burst = one_day(4, "burst", devices=6, restless=False).counts[..., 24:].sum(axis=2)
    assert burst[:, :45].mean() > 3 * burst[:, 45:].mean()


def test_reports_are_lost_and_late_in_the_shares_of_the_world():
    delay = next(simulate(WORLDS["lossy"], 1, np.random.default_rng(6))).delay_min
    assert (delay < 0).mean() == pytest.approx(0.05, abs=0.01) == (delay > 0).mean()
    assert delay.max() <= 360 and one_day(1, devices=1).delay_min is None


@pytest.mark.parametrize(
    "wrong", [{"frames": 1}, {"frames": 70_000}, {"devices": 0}, {"dwell_s": 0.0}, {"lost": 0.7, "late": 0.6}]
)
def test_worlds_that_cannot_be_are_refused(wrong):
    with pytest.raises(BadInput, match="worlds"):
        World(**wrong)


def test_the_baseline_of_a_world_is_what_its_bundle_would_say():
    baseline = World(classes=10).baseline(np.random.default_rng(1))
    counts = baseline.dense()
    assert counts.sum() == pytest.approx(3000, abs=10) and sum(baseline.prevalence) == pytest.approx(1)
    assert baseline.prevalence[0] == pytest.approx(0.99, abs=0.005) and counts[0, 0].sum() > 1400


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
