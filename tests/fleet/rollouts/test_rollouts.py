"""Who is first, when a rollout goes on and when it goes back: pure functions, and a fleet that is simulated."""

from __future__ import annotations

from collections import Counter

import msgspec
import numpy as np
import pytest

from device_agent.contract.errors import BadInput
from fleet.rollouts.decision import Evidence, decide, warn_at
from fleet.rollouts.peers import ALONE, Sight, excused
from fleet.rollouts.plan import Rollout, Terms, make_waves
from fleet.rollouts.trial import Harm, run_trial

HOUR_MS = 3_600_000
FLEET = {f"d{number}": f"s{number // 20}" for number in range(1000)}
GOOD = Evidence(running=10, independent=9_000, hours=30)


def made(**changes) -> Rollout:
    """A rollout of a thousand devices in its first wave."""
    rollout = Rollout(id="r", bundle="new", back="old", models=["n"], old=["o"], waves=make_waves(FLEET, "r"),
                      state="running", stage=0)  # fmt: skip
    return msgspec.structs.replace(rollout, **changes)


def test_waves_are_1_10_50_and_100_percent_spread_over_sites_and_the_same_everywhere():
    waves = make_waves(FLEET, "bundle")
    assert [len(wave) for wave in waves] == [10, 90, 400, 500]
    assert sorted(device for wave in waves for device in wave) == sorted(FLEET)
    assert len({FLEET[device] for device in waves[0]}) == 10
    assert set(Counter(FLEET[device] for wave in waves[:3] for device in wave).values()) <= {9, 10, 11}
    assert make_waves(dict(reversed(FLEET.items())), "bundle") == waves
    assert make_waves(FLEET, "another")[0] != waves[0]


@pytest.mark.parametrize("sizes", [[2, 2, 2, 40], [1, 1, 6], [3, 3, 3, 3], [1, 30]])
def test_no_site_goes_whole_before_the_end_while_others_can(sizes):
    sites = {f"{site}-{number}": str(site) for site, size in enumerate(sizes) for number in range(size)}
    for seed in "abcdef":
        waves = make_waves(sites, seed)
        early = [device for wave in waves[:-1] for device in wave]
        counts = Counter(sites[device] for device in early)
        spare = len(sites) - len(sizes)
        assert len(early) > spare or all(counts[str(site)] < size for site, size in enumerate(sizes))


def test_a_fleet_of_single_devices_has_a_canary_too_and_an_empty_one_none():
    assert [len(wave) for wave in make_waves({"a": "x", "b": "y", "c": "z"}, "r")] == [1, 1, 1]
    assert make_waves({"a": "x"}, "r") == [["a"]]
    for sites, shares in (({}, (1.0,)), ({"a": "x"}, (0.5,)), ({"a": "x"}, (0.5, 0.1, 1.0)), ({"a": "x"}, (0.0, 1.0))):
        with pytest.raises(BadInput):
            make_waves(sites, "r", shares)


def test_it_goes_on_after_frames_and_hours_and_ends_after_the_last_wave():
    decision = decide(made(), GOOD, 1)
    assert decision.action == "advance" and len(decision.desired) == 100
    assert {bundle for _, bundle in decision.desired} == {"new"}
    for short in (GOOD._replace(independent=4_999), GOOD._replace(hours=23)):
        assert decide(made(), short, 1).action == "stay"
    assert decide(made(stage=3), GOOD._replace(running=1000), 1).action == "finish"
    for state in ("planned", "done", "rolled_back"):
        assert decide(made(state=state), GOOD, 1).action == "stay"


def test_it_goes_back_at_warn_and_on_golden_failures_even_while_halted_or_unheard():
    bad = GOOD._replace(log_e=warn_at(made()), trouble="The monitor has had no broker")
    for state in ("running", "halted"):
        decision = decide(made(state=state, halted_by="person ann"), bad, 1)
        assert decision.action == "roll back" and decision.desired == [(d, "old") for d in made().chosen]
    assert decide(made(), bad._replace(log_e=warn_at(made()) - 0.1), 1).action == "halt"
    assert decide(made(), GOOD._replace(critical=("golden parts failed",)), 1).reasons == ["golden parts failed"]


def test_it_halts_while_nobody_is_heard_or_too_few_report_and_goes_on_by_itself():
    down = GOOD._replace(trouble="The monitor has had no broker")
    assert decide(made(), down, 1).action == "halt"
    halted = made(state="halted", halted_by="monitor")
    assert decide(halted, down, 1).action == "stay" and decide(halted, GOOD, 1).action == "resume"
    few = GOOD._replace(running=6, independent=9e9)
    assert decide(made(), few, 25 * HOUR_MS).action == "halt"
    assert decide(made(), few._replace(hours=1), HOUR_MS).action == "stay"
    assert decide(made(state="halted", halted_by="person ann"), GOOD, 1).action == "stay"


def test_peers_excuse_what_the_site_shows_and_few_of_them_excuse_more():
    frames, rate = np.full(6, 1e4), np.full(6, 0.01)
    events, site = np.array([200.0, 200, 200, 100, 100, 200]), np.array([0, 0, 0, 1, 1, 2])
    canary = np.array([True, False, False, True, False, True])
    shown = excused(Sight(frames, events, rate, up=True), np.zeros(6), site, canary)
    assert 2.0 < shown[0] < 2.3 and 1.0 < shown[3] < 1.3 and shown[5] == ALONE
    held = excused(Sight(frames, events, rate, up=True), np.full(6, 0.95), site, canary)
    assert held[0] > shown[0] and held[3] > shown[3]
    fewer = excused(Sight(frames, events / 4, rate, up=False), np.zeros(6), site, canary)
    assert fewer[0] == 0.5 and fewer[5] == 1 / ALONE


@pytest.mark.parametrize("seed", [3, 4, 5])
def test_a_good_bundle_reaches_a_thousand_devices_and_a_blind_one_ten(seed):
    good = run_trial(Harm(), seed)
    assert (good.state, good.stage, good.reached) == ("done", 3, 1000) and good.hours == 4 * 24
    blind = run_trial(Harm(defects=0.1), seed)
    assert (blind.state, blind.stage, blind.reached) == ("rolled_back", 0, 10) and blind.hours <= 12


def test_a_bundle_that_doubles_low_confidence_is_found_before_the_last_wave():
    found = [run_trial(Harm(low=2.0), seed) for seed in (6, 7, 8)]
    assert all(one.state == "rolled_back" and one.stage < 3 for one in found)


def test_terms_that_ask_for_more_take_longer():
    terms = Terms(hours=48)
    assert run_trial(Harm(), 9, terms=terms).hours == 4 * 48
