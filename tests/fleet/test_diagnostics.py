import math

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner

from device_agent.contract.errors import BadInput, NotFound
from device_agent.contract.plugins import Seam
from device_agent.detector import reference_from_baseline, streams, weighted_cells
from fleet.commands.diagnostics import diagnostics
from fleet.detector_fleet import Settings
from fleet.diagnostics import choice
from fleet.diagnostics.as_detector import TextbookDetector
from fleet.diagnostics.choice import SAYS, TESTS, false_alarms, make_test
from fleet.diagnostics.distances import MEASURES, chi_square_limit
from fleet.diagnostics.normal import Normal, normal_of_baseline, normal_of_history
from fleet.diagnostics.of_device import diagnose
from fleet.inbox import read_batch
from fleet.ingest import Ingest
from fleet.worlds import World, simulate_sites, site_rng

NAMES = TESTS.names()
QUIET = [name for name in NAMES if name != "page-hinkley"]


def normal_of(shares, *, devices=1, independent=5000.0, phi=1.0):
    rows = np.tile(np.asarray(shares, float), (devices, 1))
    return Normal(rows, np.full(devices, independent), np.full(devices, phi))


def bell(middle=14.0, width=2.5):
    bins = np.arange(24)
    good = np.exp(-(((bins - middle) / width) ** 2))
    return np.concatenate([0.99 * good / good.sum(), np.full(24, 0.01 / 24)])


def feed(test, shares, *, reports, frames=200, devices=1, seed=0, phi=1, each=None):
    """What a test says of every report: statistics, thresholds, alarms, (reports, devices) each."""
    rng, rows, out = np.random.default_rng(seed), np.arange(devices), []
    for _ in range(reports):
        cells = rng.multinomial(frames // phi, shares, size=devices) * phi
        n = cells.sum(axis=1)
        out.append(test.update(rows, cells, n, (n * 0.2).astype(int)))
        if each:
            each()
    return [np.array(column) for column in zip(*out, strict=True)]


@pytest.mark.parametrize("name", NAMES)
def test_each_test_finds_a_shift_and_starts_anew(name):
    test = make_test(name, normal_of(bell(), devices=3))
    alarms = feed(test, bell(), reports=120, devices=3)[2]
    found = feed(test, bell(9.0, 4.0), reports=120, devices=3, seed=1)[2]
    assert alarms.sum() <= 1 and found.any(axis=0).all()
    test.reset(np.arange(3))
    statistic, threshold, alarm = test.update(np.arange(3), np.zeros((3, 48), int), np.zeros(3, int), np.zeros(3, int))
    assert not alarm.any() and (np.isnan(statistic) | (statistic < threshold)).all()


@pytest.mark.parametrize("name", NAMES)
def test_rows_are_judged_alone_and_memory_goes_on_where_it_was(name):
    both = make_test(name, normal_of(bell(), devices=2))
    rng, one = np.random.default_rng(3), make_test(name, normal_of(bell()))
    other = None
    for step in range(200):
        cells = np.stack([rng.multinomial(200, bell()), rng.multinomial(200, bell(12.0 if step > 60 else 14.0))])
        n, same = cells.sum(axis=1), np.array([30, 40])
        joint = both.update(np.arange(2), cells, n, same)
        alone = one.update(np.zeros(1, np.intp), cells[1:], n[1:], same[1:])
        np.testing.assert_allclose(joint.statistic[1], alone.statistic[0], rtol=1e-5)
        assert joint.alarm[1] == alone.alarm[0]
        if step == 97:
            other = make_test(name, normal_of(bell()))
            other.grow(normal_of(bell()))
            other.restore(1, one.state(0))
        elif other is not None:
            again = other.update(np.ones(1, np.intp), cells[1:], n[1:], same[1:])
            np.testing.assert_allclose(again.statistic, alone.statistic, rtol=1e-5)
    with pytest.raises(BadInput, match="bytes of memory"):
        one.restore(0, b"none")


@pytest.mark.parametrize("name", ["chi2", "ks"])
def test_p_values_hold_on_independent_frames(name):
    test = make_test(name, normal_of(bell(), devices=200, independent=1e9), level=0.05, block=5)
    alarms = feed(test, bell(), reports=50, frames=400, devices=200)[2][4::5]
    assert alarms.size == 2000
    assert alarms.mean() < 0.075
    if name == "chi2":
        assert alarms.mean() > 0.02


@pytest.mark.parametrize("name", list(MEASURES))
def test_repeated_frames_are_no_more_evidence(name):
    level = {"level": 0.01, "block": 20}
    raw = feed(make_test(name, normal_of(bell(), devices=40), **level), bell(), reports=100, devices=40, phi=20)
    aware = make_test(name, normal_of(bell(), devices=40, phi=20.0), **level)
    known = feed(aware, bell(), reports=100, devices=40, phi=20)
    assert known[2].mean() < 0.03
    if name in ("chi2", "ks"):
        assert raw[2].mean() > 0.3, "taken as independent, they alarm"


def test_over_dispersion_is_learnt_from_pairs_where_it_is_not_known():
    unknown = normal_of(bell(), devices=1, phi=math.nan)
    test, rng = make_test("chi2", unknown, block=30), np.random.default_rng(2)
    for _ in range(30):
        drawn = np.repeat(rng.choice(48, 20, p=bell()), 20)
        same = np.array([(np.diff(drawn) == 0).sum()])
        found = test.update(np.zeros(1, np.intp), np.bincount(drawn, minlength=48)[None], np.array([400]), same)
    assert not found.alarm[0] and found.statistic[0] < 40


def test_adwin_keeps_a_window_that_grows_and_is_cut_at_a_change():
    test = make_test("adwin", normal_of(bell()), level=0.05)
    feed(test, bell(), reports=600)

    def held():
        return int((test._places["used"][0] * 2 ** np.arange(test.SIZES)).sum())

    assert held() == 600
    assert feed(test, bell(10.0), reports=60, seed=2)[2].any()
    assert held() < 200


def test_a_quantile_of_chi_square_is_near_the_tables():
    found = chi_square_limit(np.array([2.0, 10.0, 47.0]), 0.001)
    np.testing.assert_allclose(found, [13.82, 29.59, 82.72], rtol=0.03)


@pytest.mark.parametrize("wrong", [{"level": 0.0}, {"level": 0.9}, {"block": 0}])
@pytest.mark.parametrize("name", NAMES)
def test_levels_and_blocks_that_make_no_sense_are_refused(name, wrong):
    with pytest.raises(BadInput, match="drift tests"):
        make_test(name, normal_of(bell()), **wrong)


def test_unknown_tests_are_named_and_packages_can_add_theirs(monkeypatch):
    with pytest.raises(BadInput, match="known are adwin, chi2"):
        make_test("hunch", normal_of(bell()))
    monkeypatch.setattr(choice, "TESTS", Seam("drift_tests", {"mine": "fleet.diagnostics.sequential:PageHinkley"}))
    assert choice.make_test("mine", normal_of(bell())).state(0)


def test_every_test_says_what_it_is_worth():
    assert set(SAYS) == set(NAMES)
    for name in NAMES:
        assert "a device-month, under" in false_alarms(name) and "measured" in false_alarms(name)
    assert false_alarms("hunch") == "not measured"


def test_a_history_without_frames_is_refused():
    with pytest.raises(BadInput, match="no history"):
        normal_of_history(np.zeros((1, 5, 48), int), np.zeros((1, 5), int))


@pytest.mark.slow
def test_on_a_healthy_line_and_a_dirty_one():
    world = World()
    days = simulate_sites(world, 5, [site_rng(31, 0)], fault="bulk", onset=4 * 1440)
    history = [next(days) for _ in range(3)]
    counts, same = (np.concatenate([getattr(day, what) for day in history], axis=1) for what in ("counts", "same"))
    tests = {name: make_test(name, normal_of_history(counts, same)) for name in NAMES}
    rows, n = np.arange(20), np.full(20, 600)
    alarms = {name: np.zeros((2, 20), bool) for name in NAMES}
    for number, day in enumerate(days):
        for minute in range(1440):
            for name, test in tests.items():
                alarms[name][number] |= test.update(rows, day.counts[:, minute], n, day.same[:, minute]).alarm
    for name in QUIET:
        assert alarms[name][0].sum() <= 6, name
    assert all(alarms[name][1].mean() > 0.9 for name in ("chi2", "ks", "page-hinkley", "adwin"))


def test_a_textbook_test_can_stand_in_for_the_detector(plant):
    baseline = plant.manifest.artifacts[0].baseline
    chosen = streams(["good", "defect"], weighted_cells(baseline))
    reference = reference_from_baseline(baseline, chosen)
    normal = normal_of_baseline(baseline)

    def make(rows):
        return make_test("chi2", rows, block=20)

    detector = TextbookDetector(chosen, reference.take(np.zeros(0, np.intp)), normal, make, page=16.0)
    detector.grow(reference.repeat(2))
    rng, rows, n = np.random.default_rng(1), np.arange(2), np.full(2, 100)
    healthy, shifted = weighted_cells(baseline).ravel(), np.roll(weighted_cells(baseline).ravel(), -5)
    pages = []
    for step in range(40):
        shares = (healthy, shifted if step >= 20 else healthy)
        cells = np.stack([rng.multinomial(100, one / one.sum()) for one in shares])
        said = detector.update(rows, cells, n, np.array([15, 15]), n * 0)
        pages.append(said.page.copy())
    assert not np.array(pages)[:39].any() and pages[-1].tolist() == [False, True]
    assert said.score[1] >= 16 > said.score[0] and said.warn.tolist() == said.page.tolist()
    other = TextbookDetector(chosen, reference.repeat(1), normal, make, page=16.0)
    other.restore(0, detector.state(1))
    assert other.state(0) == detector.state(1)
    with pytest.raises(BadInput, match="one report of each"):
        detector.update(np.array([0, 0]), cells, n, n * 0, n * 0)


@pytest.fixture
def reported(plant):
    """A store with two days of a device that becomes dirty, a report each quarter of an hour."""
    speaker = plant.speaker("press-1", interval_ms=900_000)
    engine = plant.open(places={"press-1": ("north", "plate")})
    ingest = Ingest(engine, Settings())
    for step in range(192):
        message = speaker.message(speaker.report("dirty" if step > 150 else "healthy", frames=60, stay=1))
        ingest.process(read_batch([message]), message.received_ms)
    return plant, engine


def test_diagnostics_show_the_last_day_of_a_device(reported):
    plant, engine = reported
    with engine.connect() as tx:
        found = diagnose(tx, "press-1")
        before = diagnose(tx, "press-1", hours=48)
        with pytest.raises(NotFound, match="press-9"):
            diagnose(tx, "press-9")
    assert found.reports == 96 and before.reports == 192 and 0 < found.independent <= found.frames == 96 * 60
    assert {shown.test for shown in found.tests} == set(NAMES)
    assert {shown.test for shown in found.tests if shown.over} >= {"chi2", "ks", "kl", "js", "psi"}
    said = CliRunner().invoke(diagnostics, ["press-1", "--store", plant.url, "--json"])
    assert said.exit_code == 0 and msgspec.json.decode(said.stdout)["tests"][0]["false_alarms"]
    plain = CliRunner().invoke(diagnostics, ["press-1", "--store", plant.url])
    assert "over" in plain.stdout and "false alarms on healthy lines" in plain.stdout


def test_diagnostics_of_a_model_without_a_baseline_say_so(plant):
    speaker = plant.speaker("press-1")
    engine = plant.open(models=False)
    ingest = Ingest(engine, Settings())
    message = speaker.message(speaker.report())
    ingest.process(read_batch([message]), message.received_ms)
    with engine.connect() as tx, pytest.raises(BadInput, match="no baseline"):
        diagnose(tx, "press-1")
