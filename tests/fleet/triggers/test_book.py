"""Triggers in the store: opened once, moved by legal moves alone, with who, when and why; one person is not two."""

from __future__ import annotations

import itertools
import threading

import msgspec
import pytest
from sqlalchemy import select

from device_agent.contract.alert import Alert, Evidence, TriggerResult
from device_agent.contract.errors import BadInput, LinesideError, NotFound
from fleet.alert_store import Change, write_changes
from fleet.schema import TRIGGER
from fleet.triggers.book import Draft, advance, approve, open_trigger, read_held, read_triggers, take_result
from fleet.triggers.evidence import labelled_evidence
from fleet.triggers.states import ENDED, MOVES, people
from fleet.triggers.trail import people_needed, read_trail, set_two_person

NOW_MS = 1_790_000_000_000
WEEK_MS = 7 * 86_400_000


@pytest.fixture
def tx(plant):
    """A transaction on a new store."""
    with plant.open().begin() as tx:
        yield tx


def labelled(model, **fields):
    evidence = labelled_evidence(170, 200, 0.95)
    return Draft(
        **{"model": model, "reason": "labels", "evidence": [evidence], "from_ms": 0, "to_ms": WEEK_MS, **fields}
    )


def asked(tx, model, *, who="ann", text="new supplier", now_ms=NOW_MS):
    return open_trigger(tx, Draft(model=model, reason="person", text=text), who=who, now_ms=now_ms)


def moved(tx, trigger, *states):
    for state in states:
        advance(tx, trigger.id, state, who="ann", why="so", now_ms=NOW_MS)


def test_the_same_evidence_asks_once(tx, model):
    first = open_trigger(tx, labelled(model), who="ann", now_ms=NOW_MS)
    again = open_trigger(tx, labelled(model), who="bob", now_ms=NOW_MS + 1)
    assert first.new and not again.new and again.trigger == first.trigger
    assert len(read_triggers(tx)) == 1 and len(read_trail(tx, first.trigger.id)) == 1


def test_a_rejected_trigger_is_not_opened_by_the_same_evidence_but_by_newer(tx, model):
    first = open_trigger(tx, labelled(model), who="ann", now_ms=NOW_MS).trigger
    later = labelled(model, from_ms=WEEK_MS, to_ms=2 * WEEK_MS)
    assert not open_trigger(tx, later, who="ann", now_ms=NOW_MS).new  # one is under way
    advance(tx, first.id, "rejected", who="bob", why="the lamp was it", now_ms=NOW_MS)
    assert open_trigger(tx, labelled(model), who="ann", now_ms=NOW_MS).trigger.state == "rejected"
    assert open_trigger(tx, later, who="ann", now_ms=NOW_MS).new
    assert [one.state for one in read_triggers(tx, ended=False)] == ["open"]


def test_only_legal_moves_are_made_and_each_is_written_down(tx, model):
    trigger = asked(tx, model).trigger
    for number, state in enumerate(("labelling", "training", "shadow", "canary", "done")):
        now = read_held(tx, trigger.id).trigger.state
        for wrong in set(MOVES) - set(MOVES[now]):
            with pytest.raises(BadInput, match=f"is {now} and cannot become {wrong}"):
                advance(tx, trigger.id, wrong, who="ann", why="so", now_ms=NOW_MS)
        advance(tx, trigger.id, state, who=f"who-{number}", why=f"why-{number}", now_ms=NOW_MS + number)
    trail = read_trail(tx, trigger.id)
    assert [(one.before, one.after) for one in trail] == list(
        itertools.pairwise(["", "open", *(one.after for one in trail[1:])])
    )
    assert [(one.who, one.why, one.at_ms - NOW_MS) for one in trail[1:]] == [
        (f"who-{k}", f"why-{k}", k) for k in range(5)
    ]


def test_every_state_but_the_last_ones_leads_somewhere_and_all_are_reached():
    assert {"done", "rejected", "rolled_back"} == ENDED
    assert {after for moves in MOVES.values() for after in moves} == set(MOVES) - {"open"}


def test_what_labels_ask_for_needs_a_person(tx, model):
    trigger = open_trigger(tx, labelled(model), who="monitor", now_ms=NOW_MS).trigger
    with pytest.raises(BadInput, match=r"needs the approval of a person, has none; lineside-fleet trigger approve"):
        moved(tx, trigger, "labelling")
    assert approve(tx, trigger.id, who="ann", now_ms=NOW_MS).trigger.state == "labelling"
    with pytest.raises(BadInput, match="is labelling; only an open one is approved"):
        approve(tx, trigger.id, who="bob", now_ms=NOW_MS)


@pytest.mark.parametrize("second", ["ann", "Ann", " ANN ", "ａｎｎ"])
def test_one_person_is_not_two(tx, model, second):
    set_two_person(tx, True, who="chief", why="", now_ms=NOW_MS)
    trigger = asked(tx, model, who="ann").trigger
    with pytest.raises(BadInput, match="counts already; it needs 2 different people"):
        approve(tx, trigger.id, who=second, now_ms=NOW_MS)
    with pytest.raises(BadInput, match="needs the approval of two different people, has ann"):
        moved(tx, trigger, "labelling")
    held = approve(tx, trigger.id, who="bob", now_ms=NOW_MS)
    assert held.trigger.state == "labelling" and held.approved == ["ann", "bob"]


def test_of_what_labels_ask_for_two_people_approve_and_the_first_is_not_the_second(tx, model):
    set_two_person(tx, True, who="chief", why="", now_ms=NOW_MS)
    trigger = open_trigger(tx, labelled(model), who="monitor", now_ms=NOW_MS).trigger
    assert approve(tx, trigger.id, who="ann", now_ms=NOW_MS).trigger.state == "open"
    with pytest.raises(BadInput, match="ann counts already"):
        approve(tx, trigger.id, who="ann", now_ms=NOW_MS)
    assert approve(tx, trigger.id, who="bob", now_ms=NOW_MS).trigger.state == "labelling"


def test_turning_the_rule_off_needs_a_reason_and_frees_no_open_trigger(tx, model):
    set_two_person(tx, True, who="chief", why="", now_ms=NOW_MS)
    trigger = asked(tx, model).trigger
    with pytest.raises(BadInput, match="say why it is turned off"):
        set_two_person(tx, False, who="ann", why=" ", now_ms=NOW_MS)
    set_two_person(tx, False, who="ann", why="bob is ill", now_ms=NOW_MS)
    with pytest.raises(BadInput, match="needs the approval of two"):
        moved(tx, trigger, "labelling")
    assert people_needed(tx) == 1
    assert [(one.who, one.before, one.after) for one in read_trail(tx, "policy")] == [
        ("chief", "1", "2"),
        ("ann", "2", "1"),
    ]


@pytest.mark.parametrize("who", ["", "  ", "x" * 65, "an\nn", "a\x1b[2J"])
def test_a_name_that_is_none_is_refused_and_nothing_is_written(tx, model, who):
    trigger = asked(tx, model).trigger
    for act in (
        lambda: asked(tx, model, who=who, text="other"),
        lambda: approve(tx, trigger.id, who=who, now_ms=NOW_MS),
        lambda: advance(tx, trigger.id, "rejected", who=who, why="x", now_ms=NOW_MS),
    ):
        with pytest.raises(BadInput, match="who: a name of 1 to 64"):
            act()
    assert len(read_trail(tx, trigger.id)) == 1 and read_held(tx, trigger.id).trigger.state == "open"


def test_an_end_needs_a_reason(tx, model):
    trigger = asked(tx, model).trigger
    with pytest.raises(BadInput, match="say why it is rejected"):
        advance(tx, trigger.id, "rejected", who="ann", now_ms=NOW_MS)


def test_unknown_models_alerts_and_triggers_are_named(tx, model):
    with pytest.raises(NotFound, match="no model '00'; known are: "):
        asked(tx, "00")
    with pytest.raises(NotFound, match="no alert 'zz'"):
        open_trigger(tx, labelled(model, alerts=["zz"]), who="ann", now_ms=NOW_MS)
    for name in ("nothing", "", "%", "____"):
        with pytest.raises(NotFound, match="no trigger"):
            read_held(tx, name)


def test_a_trigger_knows_the_devices_of_its_alerts_and_the_bundle(tx, model):
    alert = Alert(id="a1", severity="page", scope_kind="site", scope="hall", site="hall", model=model, stream="low+",
                  opened_ms=1, onset_ms=1, updated_ms=1, text="low", devices=["press-2", "press-1"])  # fmt: skip
    write_changes(tx, [Change(alert, "opened")])
    trigger = open_trigger(tx, labelled(model, alerts=["a1", "a1"]), who="ann", now_ms=NOW_MS).trigger
    assert (trigger.alerts, trigger.devices, trigger.bundle_sha256) == (["a1"], ["press-1", "press-2"], "0" * 64)


def result(trigger, **fields):
    return TriggerResult(**{"trigger": trigger.id, "model": trigger.model, "state": "trained", "run": "steel-2",
                            "finished_ms": 1, "metrics": {"accuracy": 0.97}, **fields})  # fmt: skip


def test_a_result_is_taken_once_and_only_while_training(tx, model):
    trigger = asked(tx, model).trigger
    with pytest.raises(BadInput, match="is open; a result is taken while it is training"):
        take_result(tx, result(trigger), who="ann", now_ms=NOW_MS)
    moved(tx, trigger, "labelling", "training")
    failed = result(trigger, state="failed", text="diverged")
    assert take_result(tx, failed, who="ann", now_ms=NOW_MS)[0].trigger.state == "training"
    assert take_result(tx, failed, who="ann", now_ms=NOW_MS)[1] is False
    held, new = take_result(tx, result(trigger), who="ann", now_ms=NOW_MS)
    assert new and held.trigger.state == "shadow"
    assert take_result(tx, result(trigger), who="ann", now_ms=NOW_MS)[1] is False
    assert len(read_trail(tx, trigger.id)) == 5
    with pytest.raises(BadInput, match="is of model 00"):
        take_result(tx, result(trigger, model="00"), who="ann", now_ms=NOW_MS)
    with pytest.raises(BadInput, match="is shadow; a result is taken while"):
        take_result(tx, result(trigger, run="another"), who="ann", now_ms=NOW_MS)


def test_of_two_who_move_a_trigger_at_once_one_does(plant, model):
    engine = plant.open()
    with engine.begin() as tx:
        trigger = asked(tx, model).trigger
    start, said = threading.Barrier(6), []

    def go(who: str) -> None:
        start.wait()
        try:
            with engine.begin() as tx:
                advance(tx, trigger.id, "labelling", who=who, now_ms=NOW_MS)
            said.append(who)
        except LinesideError as error:
            assert "meanwhile" in str(error) or "cannot become labelling" in str(error)

    threads = [threading.Thread(target=go, args=(f"who-{k}",)) for k in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with engine.connect() as tx:
        trail = read_trail(tx, trigger.id)
        assert [one.who for one in trail[1:]] == said and len(said) == 1
        assert tx.scalar(select(TRIGGER.c.state)) == "labelling"


def test_evidence_comes_back_from_the_store_as_it_was(tx, model):
    evidence = Evidence(kind="business", figure="business.complaints", value=3, expected=2, n=0, text="déjà\u2028vu")
    made = open_trigger(
        tx, labelled(model, evidence=[labelled_evidence(1, 9, 0.9), evidence]), who="ann", now_ms=1
    ).trigger
    assert read_held(tx, made.id[:6]).trigger == made
    assert msgspec.json.decode(msgspec.json.encode(made))["evidence"][1]["text"] == "déjà\u2028vu"


def test_people_are_counted_once():
    assert people(["ann", "bob", "ANN", " bob "]) == ["ann", "bob"]
