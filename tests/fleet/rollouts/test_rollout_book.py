"""Rollouts in the store: what is planned, and what people and the monitor do to them."""

from __future__ import annotations

import json

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner
from sqlalchemy import update

from device_agent.contract.errors import BadInput, NotFound
from device_agent.contract.histogram import BINS
from fleet.cli import cli
from fleet.heartbeat import Heartbeat, write_heartbeat
from fleet.models import models_of, read_models, write_models
from fleet.rollouts.book import halt, plan, read_rollout, read_rollouts, resume, roll_back, start, step
from fleet.rollouts.observed import usual_of
from fleet.rollouts.plan import Terms
from fleet.rollup import Sums
from fleet.schema import DEVICE, ROLLUP
from fleet.store import upsert
from fleet.triggers.book import Draft, advance, open_trigger, read_held
from fleet.triggers.trail import read_trail, set_two_person

HOUR_MS = 3_600_000
NOW = 1_790_000_000_000 // HOUR_MS * HOUR_MS
NEW = "ab" * 32
SITES = {f"press-{number}": f"site-{number % 4}" for number in range(40)}
TERMS = Terms(frames=200, hours=2)


@pytest.fixture
def fleet(plant):
    """A store with two bundles of one model each kind, and 40 devices at four sites; the new model's id."""
    engine = plant.open(places={name: (site, "bracket") for name, site in SITES.items()})
    with engine.begin() as tx:
        fresh = [
            msgspec.structs.replace(one, model=f"{number:016x}")
            for number, one in enumerate(models_of(plant.manifest, NEW, NOW))
        ]
        write_models(tx, fresh)
        write_heartbeat(tx, Heartbeat(at_ms=NOW, connected=True, since_ms=0))
    return engine


def planned(tx, **changes):
    """The rollout of the new bundle over all devices."""
    given = {"bundle": NEW[:12], "back": "0" * 64, "sites": SITES, "who": "ann", "now_ms": NOW, "terms": TERMS}
    return plan(tx, **(given | changes))


def told(tx, rollout, start_ms: int, *, low: float, heard: bool = True) -> None:
    """An hour of all devices: those that are chosen run the new bundle, with `low` times the usual low confidence."""
    rng, chosen = np.random.default_rng(start_ms // HOUR_MS), set(rollout.chosen if rollout else ())
    usual = usual_of(next(iter(read_models(tx).values())))
    old = rollout.old[0] if rollout else next(o.model for o in read_models(tx).values() if o.bundle_sha256 != NEW)
    rows = []
    for device in SITES:
        new = device in chosen
        model = rollout.models[0] if new else old
        few = int(rng.binomial(3600, min(1.0, usual.low * (low if new else 1.0))))
        cells = {usual.edge - 1: few, 20: 3550 - few, BINS + 20: 50}
        sums = Sums(reports=60, frames=3600, same=2000, cells={cell: n for cell, n in cells.items() if n})
        packed = {name: msgspec.msgpack.encode(getattr(sums, name)) for name in ("cells", "infer", "quality")}
        rows.append({"device": device, "span": "h", "start_ms": start_ms, "model": model, "reports": 60,
                     "frames": 3600, "dropped": 0, "parts": 0, "same": 2000, "score": None, **packed})  # fmt: skip
        values = {"model": model, "last_report_ms": start_ms + HOUR_MS, "online": True, "interval_ms": 60_000}
        if heard or not new:
            tx.execute(update(DEVICE).where(DEVICE.c.device == device).values(**values))
    upsert(tx, ROLLUP, rows)


def beat(tx, now_ms: int, **changes) -> None:
    """The monitor is well at a time."""
    write_heartbeat(tx, Heartbeat(at_ms=now_ms, **({"connected": True, "since_ms": 0} | changes)))


def run_hours(engine, rollout_id: str, count: int, *, low: float) -> list[str]:
    """Hours of a rollout with a decision after each."""
    said = []
    for hour in range(count):
        with engine.begin() as tx:
            told(tx, read_rollout(tx, rollout_id), NOW + hour * HOUR_MS, low=low)
            beat(tx, NOW + (hour + 1) * HOUR_MS)
            said.append(step(tx, rollout_id, now_ms=NOW + (hour + 1) * HOUR_MS)[1].action)
    return said


def begun(engine, **changes) -> str:
    """A rollout that was started after three days of normal production; its id."""
    with engine.begin() as tx:
        for hour in range(-30, 0):
            told(tx, None, NOW + hour * HOUR_MS, low=1.0)
        made = planned(tx, **changes)
        return start(tx, made.id, who="ann", now_ms=NOW).id


def test_a_good_bundle_goes_through_all_waves_and_ends_its_trigger(fleet, plant):
    with fleet.begin() as tx:
        asked = open_trigger(tx, Draft(model=plant.model_ids[0].hex(), reason="person", text="why not"), who="ann",
                             now_ms=NOW).trigger  # fmt: skip
        for state in ("labelling", "training", "shadow", "canary"):
            advance(tx, asked.id, state, who="ann", now_ms=NOW)
    rollout_id = begun(fleet, trigger=asked.id)
    said = run_hours(fleet, rollout_id, 12, low=1.0)
    assert [one for one in said if one != "stay"] == ["advance", "advance", "advance", "finish"]
    with fleet.connect() as tx:
        rollout = read_rollout(tx, rollout_id)
        assert rollout.state == "done" and len(rollout.chosen) == 40
        assert read_held(tx, asked.id).trigger.state == "done" and read_rollouts(tx) == []
        actions = [one.action for one in read_trail(tx, rollout_id)]
    assert actions == ["plan", "start", "advance", "advance", "advance", "finish"]


def test_a_bad_bundle_goes_back_with_the_devices_it_has_reached(fleet):
    rollout_id = begun(fleet)
    said = run_hours(fleet, rollout_id, 6, low=6.0)
    assert "roll back" in said and said.index("roll back") <= 3
    with fleet.connect() as tx:
        rollout, decision, evidence = step(tx, rollout_id, now_ms=NOW + 7 * HOUR_MS, dry=True)
    assert rollout.state == "rolled_back" and len(rollout.chosen) < 40 and decision.action == "stay"
    assert decision.desired == [(device, "0" * 64) for device in rollout.chosen] and evidence.log_e > 10


def test_a_monitor_that_is_down_halts_it_and_one_that_is_back_lets_it_go_on(fleet):
    rollout_id = begun(fleet)
    with fleet.begin() as tx:
        beat(tx, NOW, ended=True)
        assert step(tx, rollout_id, now_ms=NOW + HOUR_MS)[1].action == "halt"
        assert read_rollout(tx, rollout_id).halted_by == "monitor"
    assert run_hours(fleet, rollout_id, 2, low=1.0) == ["resume", "advance"]


def test_devices_that_do_not_run_it_after_its_hours_halt_it(fleet):
    rollout_id = begun(fleet)
    with fleet.begin() as tx:
        told(tx, read_rollout(tx, rollout_id), NOW, low=1.0, heard=False)
        beat(tx, NOW + 3 * HOUR_MS)
        decision = step(tx, rollout_id, now_ms=NOW + 3 * HOUR_MS)[1]
    assert decision.action == "halt" and "0 of 1 devices report" in decision.reasons[0]


def test_people_halt_resume_and_roll_back_with_reasons(fleet):
    rollout_id = begun(fleet)
    with fleet.begin() as tx:
        with pytest.raises(BadInput, match="say why"):
            halt(tx, rollout_id, who="ann", why=" ", now_ms=NOW)
        assert halt(tx, rollout_id, who="monitor", why="audit", now_ms=NOW).halted_by == "person monitor"
    assert run_hours(fleet, rollout_id, 3, low=1.0) == ["stay"] * 3
    with fleet.begin() as tx:
        assert resume(tx, rollout_id, who="ann", now_ms=NOW).state == "running"
        assert roll_back(tx, rollout_id, who="ann", why="complaints", now_ms=NOW).state == "rolled_back"
        for what in (lambda: resume(tx, rollout_id, who="ann", now_ms=NOW),
                     lambda: start(tx, rollout_id, who="ann", now_ms=NOW),
                     lambda: roll_back(tx, rollout_id, who="ann", why="again", now_ms=NOW)):  # fmt: skip
            with pytest.raises(BadInput):
                what()
        with pytest.raises(BadInput, match="has ended before"):
            planned(tx)


def test_two_people_are_needed_where_that_is_the_rule(fleet):
    with fleet.begin() as tx:
        set_two_person(tx, True, who="ann", why="", now_ms=NOW)
        made = planned(tx)
        with pytest.raises(BadInput, match="another person"):
            start(tx, made.id, who=" ANN", now_ms=NOW)
        assert start(tx, made.id, who="bob", now_ms=NOW).state == "running"


def test_plans_that_do_not_serve_are_refused_and_the_same_plan_is_one(fleet):
    with fleet.begin() as tx:
        made = planned(tx)
        assert planned(tx, who="bob") == made
        with pytest.raises(BadInput, match="has press-"):
            planned(tx, terms=Terms(hours=3))
        for wrong, error in (
            ({"bundle": "cd" * 6}, NotFound),
            ({"bundle": "0" * 64}, BadInput),
            ({"bundle": "ab"}, NotFound),
            ({"sites": {}}, BadInput),
            ({"trigger": "t-none"}, NotFound),
        ):
            with pytest.raises(error):
                planned(tx, **wrong)
        with pytest.raises(NotFound):
            read_rollout(tx, "r-none")


def test_the_command_plans_starts_and_says_what_each_device_is_to_have(fleet, plant):
    def run(*arguments):
        result = CliRunner().invoke(cli, ["rollout", *arguments, "--store", plant.url], standalone_mode=False)
        if result.exception:
            raise result.exception
        return result.stdout

    made = run("plan", NEW[:12], "00000000", "--site", "site-*", "--hours", "2", "--by", "ann").strip()
    assert run("step", made) == "" and "planned" in run("status")
    device, bundle = run("start", made, "--by", "ann").split()
    assert device in SITES and bundle == NEW
    assert json.loads(run("step", made, "--dry-run", "--json"))["decision"]["desired"] == [[device, NEW]]
    shown = json.loads(run("status", made, "--json"))
    assert shown["rollout"]["stage"] == 0 and [one["action"] for one in shown["trail"]] == ["plan", "start"]
    assert "0 of 1 devices report" in run("status", made)
    run("halt", made, "--why", "audit", "--by", "ann")
    run("resume", made, "--by", "ann")
    assert json.loads(run("roll-back", made, "--why", "no", "--by", "ann", "--json")) == [[device, "00" * 32]]
    assert run("status") == "" and made in run("status", "--all")
