import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from device_agent.contract.errors import BadInput
from device_agent.contract.manifest import Baseline
from device_agent.detector import (
    Detector,
    Peers,
    Reference,
    independence,
    phi_of_pairs,
    reference_from_baseline,
    reference_from_history,
    streams,
    threshold,
    tilt,
    weighted_cells,
)

ROLES = ["good", "defect"]
PAGE = threshold(1_000)
GOOD, BAD, LOST = np.zeros(48), np.zeros(48), np.zeros(48)
GOOD[9:19] = [0.004, 0.02, 0.06, 0.11, 0.15, 0.17, 0.16, 0.14, 0.11, 0.076]
BAD[34:40], BAD[4:6] = 0.13, 0.11
LOST[3:7] = LOST[27:31] = 0.125
LINE = 0.99 * GOOD + 0.01 * BAD


def report(rng, shares, devices, frames=60):
    """Independent frames: cells, frames, same, identical."""
    drawn = np.array([rng.choice(48, frames, p=shares) for _ in range(devices)])
    counts = np.array([np.bincount(row, minlength=48) for row in drawn])
    return counts, np.full(devices, frames), (np.diff(drawn, axis=1) == 0).sum(axis=1), np.zeros(devices, int)


@pytest.fixture(scope="module")
def history():
    rng = np.random.default_rng(5)
    counts, _, same, _ = report(rng, LINE, 2000)
    return counts, same


@pytest.fixture(scope="module")
def chosen():
    return streams(ROLES, LINE.reshape(2, 24))


def detector(chosen, history, devices=4, **options):
    reference = reference_from_history(*history, chosen).repeat(devices)
    return Detector(chosen, reference, page=PAGE, **options)


def baseline(rng, images, prevalence=(0.99, 0.01)):
    counts = np.array([rng.multinomial(images // 2, GOOD), rng.multinomial(images // 2, BAD)])
    return Baseline.of(counts.reshape(2, 2, 24), list(prevalence) if prevalence else None)


@given(rate=st.floats(1e-4, 0.95), rho=st.floats(0, 0.99), lift=st.floats(0.02, 30).filter(lambda x: abs(x - 1) > 0.01))
def test_a_bet_is_priced_by_the_largest_eigenvalue_and_staked_at_the_saddle_point(rate, rho, lift):
    theta, kappa = (float(part) for part in tilt(np.array(rate), np.array(rho), np.array(lift)))

    def log_eigenvalue(stake):
        stay = rho * np.eye(2) + (1 - rho) * np.array([[1 - rate, rate], [1 - rate, rate]])
        return math.log(max(np.linalg.eigvals(stay * np.array([1.0, math.exp(stake)])).real))

    assert theta * (lift - 1) > 0
    assert kappa == pytest.approx(log_eigenvalue(theta), rel=1e-6, abs=1e-12)
    slope = (log_eigenvalue(theta + 1e-5) - log_eigenvalue(theta - 1e-5)) / 2e-5
    assert slope / (1 - slope) == pytest.approx(lift * rate / (1 - rate), rel=1e-3)


@pytest.mark.parametrize(("rate", "rho", "lift"), [(0.01, 0.95, 8.0), (0.01, 0.95, 0.15), (0.4, 0.98, 2.5)])
def test_bets_stay_fair_over_long_correlated_runs_where_dividing_the_poisson_bet_by_phi_does_not(rate, rho, lift):
    def growth(theta, kappa, frames=20_000):
        move = (rho * np.eye(2) + (1 - rho) * np.array([[1 - rate, rate]] * 2)) * np.exp([0.0, theta])
        state, log = np.array([1 - rate, rate]), 0.0
        for _ in range(frames):
            state = state @ move * math.exp(-kappa)
            log += math.log(state.sum())
            state = state / state.sum()
        return log

    theta, kappa = (float(part) for part in tilt(np.array(rate), np.array(rho), np.array(lift)))
    assert abs(growth(theta, kappa)) < 3
    phi = (1 + rho) / (1 - rho)
    naive = growth(math.log(lift) / phi, rate * (lift - 1) / phi)
    if lift > 1 and rate < 0.1:
        assert naive > 20


def test_the_dial_sets_the_threshold():
    assert threshold(1_000, 10_080, 1) == pytest.approx(16.13, abs=0.01)
    assert threshold(1_000, 10_080, 10) == pytest.approx(16.13 - math.log(10), abs=0.01)
    for bad in ((0, 10_080, 1), (5, 0, 1), (5, 10_080, 0), (5, 10_080, math.inf), (5, math.nan, 1)):
        with pytest.raises(BadInput, match="over 0"):
            threshold(*bad)


def test_dispersion_is_learnt_from_pairs_and_an_unknown_one_is_high():
    rng = np.random.default_rng(0)
    frames, held = rng.choice(48, 200_000, p=LINE), rng.random(200_000) < 0.9
    where = np.maximum.accumulate(np.where(held, 0, np.arange(200_000)))
    agree = np.array((LINE**2).sum())
    same = (np.diff(frames[where]) == 0).sum()
    assert float(phi_of_pairs(np.array(same), np.array(199_999), agree)) == pytest.approx(19, rel=0.1)
    assert float(phi_of_pairs(np.array(0.0), np.array(0.0), agree)) == pytest.approx(99)
    assert independence(np.array(19.0)) == pytest.approx(0.9)


def test_streams_of_several_defects_of_none_and_of_all():
    cells = np.full((4, 24), 0.01)
    named = streams(["good", "defect", "defect", "good"], cells, ["ok", "pit", "crack", "clean"])
    assert {"def+", "def+/runs", "def-:pit", "def+:crack"} <= set(named.names)
    assert named.masks[named.names.index("def+")].sum() == 48
    assert not any(name.startswith("def") for name in streams(["good", "good"], cells[:2]).names)
    assert "def+" not in streams(["defect", "defect"], cells[:2]).names
    for bad in (np.zeros((2, 24)), np.full((2, 24), np.nan), np.ones((3, 24)), -np.ones((2, 24))):
        with pytest.raises(BadInput, match="shares each"):
            streams(ROLES, bad)


def test_a_baseline_is_weighted_to_the_line_and_tighter_with_more_images(chosen):
    rng = np.random.default_rng(1)
    small, large = (reference_from_baseline(baseline(rng, images), chosen) for images in (300, 30_000))
    called = chosen.names.index("def+")
    assert large.p0[0, called] == pytest.approx(0.01 * 0.78, rel=0.1)
    up, frames = chosen.direction > 0, ~chosen.runs
    assert (small.bound > small.p0)[0, up & frames].all() and (small.bound < small.p0)[0, ~up & frames].all()
    assert small.bound[0, called] / small.p0[0, called] > large.bound[0, called] / large.p0[0, called] > 1
    assert np.isnan(small.p0[0, chosen.runs]).all()
    assert large.armed.all() and not reference_from_baseline(baseline(rng, 300, None), chosen).armed.any()
    with pytest.raises(BadInput, match="no validation counts"):
        reference_from_baseline(Baseline.of(np.zeros((2, 2, 24), int)), chosen)
    with pytest.raises(BadInput, match="for 3 classes"):
        reference_from_baseline(Baseline.of(np.ones((3, 3, 24), int)), chosen)


def test_an_unarmed_reference_raises_nothing_however_strange_the_frames(chosen):
    rng = np.random.default_rng(2)
    reference = reference_from_baseline(baseline(rng, 600, None), chosen)
    watch = Detector(chosen, reference, page=PAGE)
    for _ in range(60):
        found = watch.update(np.array([0]), *report(rng, LOST, 1))
    assert found.score[0] > PAGE and not found.page[0] and not found.warn[0]


def test_healthy_devices_are_left_alone_and_a_dirty_lens_is_paged(chosen, history):
    rng = np.random.default_rng(3)
    watch = detector(chosen, history, devices=20)
    rows = np.arange(20)
    peak = 0.0
    for _ in range(600):
        found = watch.update(rows, *report(rng, LINE, 20))
        peak = max(peak, found.score.max())
        assert not found.warn.any() and not found.frozen.any()
    assert peak > 1
    for minute in range(10):
        found = watch.update(rows, *report(rng, 0.7 * LINE + 0.3 * LOST, 20))
        if minute == 4:
            assert found.page.all()
    low = [name for name in chosen.names if name.startswith("low")]
    assert {chosen.names[stream] for stream in found.stream} <= {*low, "tail+"}
    assert (found.ratio > 5).all() and (found.ratio_low < found.ratio).all() and (found.ratio < found.ratio_high).all()
    assert (found.window == 610).all() and np.median(np.abs(found.onset - 601)) <= 3


@pytest.mark.parametrize(("images", "dirt", "within"), [(1000, 0.3, 10), (300, 0.6, 10)])
def test_reports_of_a_second_against_a_bundle_alone(images, dirt, within):
    rng = np.random.default_rng(4)
    page = threshold(5, 604_800, 1)
    delays = []
    for _ in range(6):
        normal = baseline(rng, images)
        chosen = streams(ROLES, weighted_cells(normal))
        watch = Detector(chosen, reference_from_baseline(normal, chosen).repeat(5), page=page)
        rows = np.arange(5)
        for _ in range(120):
            found = watch.update(rows, *report(rng, LINE, 5, frames=25))
            assert not found.warn.any() and not found.frozen.any()
        first = np.full(5, np.inf)
        for second in range(20):
            found = watch.update(rows, *report(rng, (1 - dirt) * LINE + dirt * LOST, 5, frames=25))
            first = np.minimum(first, np.where(found.page, second + 1, np.inf))
        delays.append(first)
    assert np.quantile(delays, 0.9) <= within
    assert np.median(delays) <= 5


def test_a_blind_class_and_surer_frames_are_found_downwards(chosen, history):
    rng = np.random.default_rng(6)
    for shares, names in ((GOOD, ("def-", "def-/runs")), (np.roll(GOOD, 2) * 0.99 + BAD * 0.01, ("bulk-",))):
        watch = detector(chosen, history, devices=1)
        for _ in range(200):
            found = watch.update(np.array([0]), *report(rng, shares, 1))
        assert found.page[0] and chosen.names[found.stream[0]] in names and found.ratio_high[0] < 1


def test_memory_survives_a_restart_and_a_batch_equals_one_by_one(chosen, history):
    rng = np.random.default_rng(7)
    shares = 0.98 * LINE + 0.02 * LOST
    one, batch, moved = (detector(chosen, history, devices=3) for _ in range(3))
    columns = [np.concatenate(parts) for parts in zip(*(report(rng, shares, 3) for _ in range(20)), strict=True)]
    rows = np.tile(np.arange(3), 20)
    whole = batch.update(rows, *columns)
    assert whole.score.std() > 0.1
    for at in range(60):
        own = detector(chosen, history, devices=3) if at == 30 else moved
        if at == 30:
            for row in range(3):
                own.restore(row, moved.state(row))
            moved = own
        single = one.update(rows[at : at + 1], *(column[at : at + 1] for column in columns))
        again = moved.update(rows[at : at + 1], *(column[at : at + 1] for column in columns))
        for mine, other, third in zip(whole, single, again, strict=True):
            np.testing.assert_allclose(mine[at], other[0], rtol=1e-5, atol=1e-9)
            np.testing.assert_array_equal(other[0], third[0])
    with pytest.raises(BadInput, match="bytes of memory"):
        one.restore(0, one.state(0)[:-1])
    with pytest.raises(BadInput, match="bytes of memory"):
        one.restore(0, b"\x07" + one.state(0)[1:])


def test_a_level_holds_until_the_rate_was_normal_for_long_and_a_reset_forgets(chosen, history):
    rng = np.random.default_rng(8)
    watch = detector(chosen, history, devices=2, clear_windows=120)
    rows = np.arange(2)
    for _ in range(30):
        found = watch.update(rows, *report(rng, 0.8 * LINE + 0.2 * LOST, 2))
    assert found.page.all()
    watch.reset(np.array([1]))
    held = 0
    for _ in range(600):
        found = watch.update(rows, *report(rng, LINE, 2))
        assert not found.warn[1]
        held += int(found.page[0])
    assert 110 <= held <= 500 and not found.warn[0] and found.window[0] == 630


def test_a_frozen_camera_is_found_and_a_slow_line_is_not_one(chosen):
    rng = np.random.default_rng(9)
    frames, keep = 60, math.exp(-1 / 30)

    def minutes(count, cell=0):
        for _ in range(count):
            drawn = np.empty(frames, int)
            for at in range(frames):
                cell = cell if rng.random() < keep else rng.choice(48, p=LINE)
                drawn[at] = cell
            yield np.bincount(drawn, minlength=48), (np.diff(drawn) == 0).sum()

    past = [np.array(part) for part in zip(*minutes(3000, 14), strict=True)]
    watch = Detector(chosen, reference_from_history(*past, chosen), page=PAGE)
    for counts, same in minutes(3000, 14):
        found = watch.update(np.array([0]), counts[None], np.array([60]), np.array([same]), np.array([0]))
        assert not found.frozen[0]
    stuck = np.zeros((1, 48), int)
    stuck[0, 14] = 60
    equal = [watch.update(np.array([0]), stuck, *(np.array([n]) for n in (60, 59, 59))).frozen[0] for _ in range(3)]
    assert equal == [False, False, True]
    watch.reset(np.array([0]))
    alike = [watch.update(np.array([0]), stuck, *(np.array([n]) for n in (60, 59, 0))).frozen[0] for _ in range(90)]
    assert not alike[0] and alike[-1]


def test_a_new_product_in_one_cell_is_drift_and_no_frozen_camera(chosen):
    known = reference_from_baseline(baseline(np.random.default_rng(3), 3000), chosen)
    watch = Detector(chosen, known, page=PAGE)
    split, whole = np.zeros((2, 1, 48), int)
    split[0, 46:] = 10
    whole[0, 47] = 20
    reports = [(split, 9)] * 10 + [(whole, 19)] * 40
    found = [watch.update(np.array([0]), moved, *(np.array([n]) for n in (20, same, 0))) for moved, same in reports]
    assert found[-1].page[0]
    assert not any(each.frozen[0] for each in found)


def test_peers_excuse_a_changed_line_but_no_dirty_lens_and_blame_no_neighbour(chosen, history):
    rng = np.random.default_rng(10)
    rows, group = np.arange(8), np.array([0, 0, 0, 0, 1, 1, 1, 1])
    changed = np.zeros(48)
    changed += 0.982 * GOOD + 0.018 * BAD

    def run(line, dirty, use):
        watch, peers = detector(chosen, history, devices=8), Peers(chosen, 8)
        for _ in range(400):
            columns = [part.copy() for part in report(rng, line, 8)]
            columns[0][0], *_ = report(rng, dirty, 1)[0]
            peers.update(rows, *watch.tally(rows, *columns[:3]))
            found = watch.update(rows, *columns, peers.multiplier(rows, group) if use else None)
        return found.warn

    alone, together = run(changed, changed, False), run(changed, changed, True)
    assert alone.sum() >= 4 and not together.any()
    lens = run(LINE, 0.9 * LINE + 0.1 * LOST, True)
    assert lens.tolist() == [True] + [False] * 7
    assert np.isnan(Peers(chosen, 1).multiplier(np.array([0]), np.array([0]))).all()


def test_a_reference_is_stored_joined_and_refined(chosen, history):
    rng = np.random.default_rng(11)
    normal = reference_from_baseline(baseline(rng, 300), chosen)
    again = Reference.load(normal.dump())
    np.testing.assert_array_equal(again.bound, normal.bound)
    assert len(normal.repeat(3).joined(again)) == 4
    counts, same = history
    events, trials = (part.sum(axis=0)[None] for part in chosen.tally(counts, counts.sum(axis=1), same))
    closer = normal.refined(chosen, events, trials, np.ones_like(events))
    truth = (LINE @ chosen.masks.T)[~chosen.runs]
    far, near = (np.abs(np.log(ref.p0[0, ~chosen.runs] / truth)) for ref in (normal, closer))
    assert far.max() > 0.03 and near.max() < 0.05 and (near < far + 0.02).all()
    for bad in (b"", b"PK\x03\x04", normal.dump()[:40]):
        with pytest.raises(BadInput, match="bytes that are none"):
            Reference.load(bad)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 500), st.integers(0, 47)), min_size=1, max_size=20))
def test_any_counts_give_finite_scores(chosen, history, reports):
    watch = detector(chosen, history, devices=3)
    counts = np.zeros((len(reports), 48), int)
    for at, (_, frames, cell) in enumerate(reports):
        counts[at, cell] = frames
    frames = counts.sum(axis=1)
    rows = np.array([row for row, _, _ in reports])
    found = watch.update(rows, counts, frames, np.maximum(frames - 1, 0), frames * 0)
    assert np.isfinite(found.score).all() and (found.score >= 0).all() and np.isfinite(found.log_e).all()
    assert (found.page <= found.warn).all() and (found.onset <= found.window).all() and (found.onset >= 1).all()
