"""What the figures of a candidate recommend, and that their limits are right as often as they say."""

from __future__ import annotations

import json

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner

from device_agent.contract.errors import BadInput, NotFound
from fleet.cli import cli
from fleet.shadow.comparison import MARGIN, Terms, compare
from fleet.shadow.disagreement import limits, repeat, watch
from fleet.shadow.labelled import Outcomes, balance, log_bet, mcnemar, read_labelled
from fleet.shadow.tally import HOUR_MS, Counts, Hour, tally

START = 1_760_000_400_000
NEW, OLD = "0f" * 8, "00" * 8


def hours(rate: float, *, devices: int = 3, count: int = 48, frames: int = 600, seed: int = 1) -> list[Hour]:
    """Hours of devices whose frames are independent and disagree at a rate."""
    rng, found = np.random.default_rng(seed), []
    for hour in range(count):
        for device in range(devices):
            apart = int(rng.binomial(frames, rate))
            served = dict.fromkeys(range(10), 600)
            counts = Counts(reports=60, classes=2, frames=frames, agreed=frames - apart, same=594,
                            served=served, matrix={0: frames - apart, 1: apart})  # fmt: skip
            found.append(Hour(f"d{device}", OLD, NEW, START + hour * HOUR_MS, counts))
    return found


def test_a_candidate_that_hardly_ever_disagrees_needs_no_labels():
    found = compare(NEW, hours(0.0005), Terms(expected=0.001))
    assert found.recommendation == "promote" and found.disagreement_high < MARGIN and found.alarm_ms is None
    assert found.matrix[0][1] + found.matrix[0][0] == found.frames == 48 * 3 * 600


def test_a_candidate_that_disagrees_is_watched_until_labels_tell():
    seen = hours(0.01)
    assert compare(NEW, seen, Terms(expected=0.01)).recommendation == "keep watching"
    better = compare(NEW, seen, Terms(expected=0.01), Outcomes(60, 15, 5))
    assert better.recommendation == "promote" and better.change_low > 0
    worse = compare(NEW, seen, Terms(expected=0.01), Outcomes(15, 60, 5))
    assert worse.recommendation == "reject" and worse.change_high < 0 and "60 lost, 15 won" in worse.reasons[0]


def test_a_candidate_that_misses_defects_is_rejected_even_if_it_is_right_more_often():
    found = compare(NEW, hours(0.01), Terms(expected=0.01), Outcomes(90, 40, 0), Outcomes(2, 30, 0))
    assert found.recommendation == "reject" and "defective" in found.reasons[0]


def test_more_disagreement_than_expected_asks_for_labels_and_rejects_nothing():
    found = compare(NEW, hours(0.03), Terms(expected=0.01))
    assert found.recommendation == "keep watching" and found.alarm_ms is not None
    assert found.alarm_ms - START <= 3 * HOUR_MS
    assert any("label disagreements" in reason for reason in found.reasons)
    assert compare(NEW, hours(0.03), Terms()).log_e is None


def test_too_few_frames_or_hours_promote_nobody():
    assert "24 hours" in compare(NEW, hours(0.0, count=5), Terms()).reasons[0]
    few = compare(NEW, hours(0.0, count=48, devices=1, frames=20), Terms())
    assert few.recommendation == "keep watching" and "2000 independent frames" in few.reasons[0]
    assert compare(NEW, [], Terms()).recommendation == "keep watching"


def test_frames_that_repeat_are_worth_less_and_widen_the_limits():
    calm = Counts(frames=1000, same=500, served={0: 5000, 1: 5000}, reports=1)
    held = Counts(frames=1000, same=9900, served={0: 5000, 1: 5000}, reports=1)
    assert repeat(calm) < 0.05 < 0.8 < repeat(held) and repeat(Counts(frames=5)) == 0.98
    one, many = (limits(np.array([1e4]), np.array([1e2]), np.array([rho]), 0.05) for rho in (0.0, 0.9))
    assert many[0] < one[0] < 0.01 < one[1] < many[1]


def test_limits_hold_at_all_times_at_once_as_often_as_they_say():
    rng, wrong, runs = np.random.default_rng(11), 0, 80
    for _ in range(runs):
        frames, apart, bad = 0.0, 0.0, False
        for _ in range(8):
            frames, apart = frames + 1500, apart + float(rng.binomial(1500, 0.01))
            low, high = limits(np.array([frames]), np.array([apart]), np.array([0.0]), 0.05)
            bad |= not low <= 0.01 <= high
        wrong += bad
    assert wrong <= 0.1 * runs + 3 * (0.1 * 0.9 * runs) ** 0.5
    assert low < 0.01 < high < 0.02


def test_looking_after_every_label_rejects_an_equal_candidate_as_seldom_as_it_says():
    rng, wrong, fooled, runs = np.random.default_rng(12), 0, 0, 300
    for _ in range(runs):
        won = np.cumsum(rng.random(150) < 0.5)
        outcomes = [Outcomes(int(k), n + 1 - int(k)) for n, k in enumerate(won)]
        wrong += any(log_bet(one, 0.5, up=False) >= -np.log(0.05) for one in outcomes)
        fooled += any(mcnemar(one) < 0.05 for one in outcomes)
    assert wrong <= 0.05 * runs + 3 * (0.05 * 0.95 * runs) ** 0.5
    assert fooled > 2 * 0.05 * runs


def test_the_watch_finds_tripled_disagreement_in_a_device_among_many_and_none_in_calm_ones():
    rng = np.random.default_rng(13)
    frames = np.full((200, 20), 360.0)
    calm = rng.binomial(360, 0.01, frames.shape).astype(float)
    told = {"tolerance": 1.5, "hours": 672, "alpha": 0.05}
    assert watch(frames, calm, np.zeros(20), 0.01, **told).alarm is None
    calm[100:, 7] = rng.binomial(360, 0.05, 100)
    alarm = watch(frames, calm, np.zeros(20), 0.01, **told).alarm
    assert alarm is not None and 100 <= alarm < 110


def test_limits_of_the_balance_close_in_and_turn_with_the_sides():
    assert balance(Outcomes(), 0.05)[0] <= -0.99 and balance(Outcomes(), 0.05)[1] >= 0.99
    low, high = balance(Outcomes(400, 100, 50), 0.05)
    back = balance(Outcomes(100, 400, 50), 0.05)
    assert 0.4 < low < 300 / 550 < high < 0.7 and back == pytest.approx((-high, -low), abs=1e-6)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("item,label,serving\n", "no column 'candidate'"),
        ("item,label,serving,candidate\na,good,good,dent\n", "no class 'dent'"),
        ("item,label,serving,candidate\na,good,good,good\na,good,good,good\n", ":3: item 'a' stands there twice"),
        ("item,label,serving,candidate\n,good,good,good\n", "is empty"),
        ("item,label,serving,candidate\nb,good\n", "no class"),
    ],
)
def test_a_file_of_labels_that_does_not_serve_is_refused_in_one_line(tmp_path, text, said):
    (tmp_path / "l.csv").write_text(text)
    with pytest.raises(BadInput, match=said):
        read_labelled(tmp_path / "l.csv", ["good", "scratch"], {"scratch"})
    with pytest.raises(NotFound):
        read_labelled(tmp_path / "none.csv", ["good"], set())


def test_the_command_compares_what_devices_reported(plant, tmp_path, shadowed, entry):
    engine, speaker = plant.open(), plant.speaker("press-1")
    with engine.begin() as tx:
        tally(tx, [entry("press-1", shadowed(speaker, agreed=18, apart=2), START + i * HOUR_MS) for i in range(30)])
    rows = "".join(f"{i},scratch,scratch,good\n" for i in range(12))
    (tmp_path / "l.csv").write_text("item,label,serving,candidate\n" + rows)
    said = CliRunner().invoke(cli, ["shadow", NEW, "--store", plant.url, "--labelled", str(tmp_path / "l.csv")])
    assert said.exit_code == 0 and said.stdout.startswith(f"{NEW}: reject")
    assert "worse 12" in said.stdout and "served scratch, candidate good: 60" in said.stdout
    listed = CliRunner().invoke(cli, ["shadow", "--store", plant.url, "--json"])
    assert json.loads(listed.stdout) == [NEW]
    as_json = CliRunner().invoke(cli, ["shadow", NEW, "--store", plant.url, "--expected", "0.01", "--json"])
    found = msgspec.json.decode(as_json.stdout)
    assert found["disagreement"] == pytest.approx(0.1) and found["alarm_ms"]
    assert isinstance(CliRunner().invoke(cli, ["shadow", "aa", "--store", plant.url]).exception, NotFound | SystemExit)
