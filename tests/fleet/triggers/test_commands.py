"""`lineside-fleet trigger` as people use it, and the file that goes to the workstation and comes back."""

from __future__ import annotations

import json
from datetime import datetime, timezone

import pytest

from device_agent.contract.alert import Trigger, TriggerResult
from device_agent.contract.codec import read_document
from device_agent.contract.errors import BadInput, NotFound, TrustFailed
from fleet.keys import create
from toolkit.training.trigger import read_asked


@pytest.fixture
def opened(run, model):
    """A trigger that a person asked for, of state labelling; its id."""
    made = run("trigger", "create", model, "--because", "new supplier", "--by", "ann", "--suggest", "epochs=8").strip()
    run("trigger", "advance", made, "--by", "ann")
    return made


@pytest.fixture
def keys(tmp_path):
    """Folders of two fleets' keys."""
    for name in ("ours", "theirs"):
        create(tmp_path / name, ["broker.example"], datetime(2026, 1, 1, tzinfo=timezone.utc))
    return tmp_path


def test_a_trigger_goes_from_a_person_to_the_workstation_and_back(run, model, opened, tmp_path):
    run("trigger", "advance", opened, "--why", "240 labels are there", "--by", "bob")
    run("trigger", "export", opened, "--out", tmp_path / "t.json", "--samples", "labelled")
    asked = read_asked(tmp_path / "t.json")
    assert (asked.trigger.id, asked.trigger.model, asked.trigger.state) == (opened, model, "training")
    assert asked.samples == tmp_path / "labelled" and asked.trigger.suggested == {"epochs": "8"} and not asked.verified
    result = TriggerResult(trigger=opened, model=model, state="trained", run="steel-2", finished_ms=1)
    (tmp_path / "r.json").write_text(json.dumps({k: getattr(result, k) for k in result.__struct_fields__}))
    for _ in range(2):
        run("trigger", "advance", "--from", tmp_path / "r.json", "--by", "ann")
    run("trigger", "advance", opened, "--candidate", "0f" * 8, "--by", "ann")
    run("trigger", "advance", opened, "--to", "rolled_back", "--why", "warned at once", "--by", "ann")
    shown = json.loads(run("trigger", "show", opened, "--json"))
    assert shown["candidate"] == "0f" * 8 and shown["trigger"]["state"] == "rolled_back"
    assert [one["after"] for one in shown["trail"]] == [
        "open",
        "labelling",
        "training",
        "shadow",
        "canary",
        "rolled_back",
    ]
    assert "bob: advance, labelling -> training: 240 labels are there" in run("trigger", "show", opened)
    assert run("trigger", "list") == "" and opened in run("trigger", "list", "--all")
    assert json.loads(run("trigger", "list", "--all", "--json"))[0]["id"] == opened


def test_asked_twice_it_is_one_trigger_and_two_people_are_needed_where_that_is_the_rule(run, model):
    assert run("trigger", "policy", "--two-person", "--by", "chief") == "2 people needed\n"
    ids = {
        run("trigger", "create", model, "--reason", "labels", "--labelled", "170/200", "--expected", "0.95")
        for _ in range(2)
    }
    (made,) = (each.strip() for each in ids)
    run("trigger", "approve", made, "--by", "ann")
    with pytest.raises(BadInput, match="ann counts already"):
        run("trigger", "approve", made, "--by", "ann")
    run("trigger", "approve", made, "--by", "bob")
    assert "(2 needed)" in run("trigger", "show", made) and "approved  ann, bob" in run("trigger", "show", made)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--reason", "labels"], "needs labelled evidence"),
        (["--reason", "golden", "--golden", "0/12"], "needs golden evidence"),
        (["--reason", "labels", "--labelled", "many"], "must read like 170/200"),
        (["--reason", "labels", "--labelled", "201/200"], "must be a count out of"),
        ([], "a person gives a name and a reason"),
        (["--because", "x", "--suggest", "epochs"], "must read like epochs=8"),
        (["--because", "x", "--by", "\x1b[2J"], "who: a name"),
    ],
)
def test_what_is_no_request_is_one_line_and_opens_nothing(run, model, options, says):
    with pytest.raises(BadInput, match=says):
        run("trigger", "create", model, *options)
    assert run("trigger", "list", "--all") == ""


def test_only_an_approved_trigger_goes_to_the_workstation(run, model, tmp_path):
    made = run("trigger", "create", model, "--because", "x").strip()
    with pytest.raises(BadInput, match="is open; only one that is labelling or training"):
        run("trigger", "export", made, "--out", tmp_path / "t.json")
    run("trigger", "reject", made, "--why", "no", "--by", "ann")
    with pytest.raises(BadInput, match="is rejected"):
        run("trigger", "export", made, "--out", tmp_path / "t.json")
    assert not (tmp_path / "t.json").exists()


def test_a_signed_trigger_is_known_and_a_changed_one_refused(run, opened, keys):
    run("trigger", "advance", opened, "--by", "ann")
    path, public = keys / "t.json", keys / "ours/signing.pub"
    run("trigger", "export", opened, "--out", path, "--keys", keys / "ours")
    text = path.read_text()
    assert read_asked(path, public).verified
    path.write_text(json.dumps(json.loads(text), indent=7))  # the order of fields and blanks play no part
    assert read_asked(path, public).verified
    for changed in (
        text.replace("new supplier", "old supplier"),
        text.replace('"samples": ""', '"samples": "/elsewhere"'),
        json.dumps({**json.loads(text), "field_of_a_newer_minor": 1}),
        json.dumps({**json.loads(text), "signature": "zz" * 64}),
        json.dumps({**json.loads(text), "signature": "00"}),
    ):
        path.write_text(changed)
        with pytest.raises(TrustFailed, match="was not signed by the key"):
            read_asked(path, public)
    path.write_text(json.dumps({**json.loads(text), "signature": ""}))
    with pytest.raises(TrustFailed, match="is not signed"):
        read_asked(path, public)
    path.write_text(text)
    with pytest.raises(TrustFailed, match="was not signed by the key"):
        read_asked(path, keys / "theirs/signing.pub")


def test_keys_that_are_none_are_said(run, opened, tmp_path):
    with pytest.raises(NotFound, match="keys init makes it"):
        run("trigger", "export", opened, "--out", tmp_path / "t.json", "--keys", tmp_path)
    (tmp_path / "signing.key").write_text("no key")
    with pytest.raises(BadInput, match="holds no Ed25519 key"):
        run("trigger", "export", opened, "--out", tmp_path / "t.json", "--keys", tmp_path)
    assert not (tmp_path / "t.json").exists()


def test_rules_open_triggers_unless_it_is_a_dry_run(run, model, tmp_path):
    (tmp_path / "rules.toml").write_text('[[rule]]\nname = "old"\nwhen = "age_of_model_days > 30"\n')
    assert run("trigger", "evaluate", tmp_path / "rules.toml", "--dry-run").count("old: fires") == 3
    assert run("trigger", "list") == ""
    first = json.loads(run("trigger", "evaluate", tmp_path / "rules.toml", "--json"))
    again = json.loads(run("trigger", "evaluate", tmp_path / "rules.toml", "--json"))
    assert [one["trigger"] for one in first] == [one["trigger"] for one in again] and len(set(map(str, first))) == 3
    assert run("trigger", "list").count("rule ") >= 3 and "(open)" in run(
        "trigger", "evaluate", tmp_path / "rules.toml"
    )


def test_results_that_are_none_change_nothing(run, opened, tmp_path):
    for text in ("", "{}", '{"schema": "9.0"}', '{"schema": "1.0", "trigger": "../x", "model": "a"}'):
        (tmp_path / "r.json").write_text(text)
        with pytest.raises(BadInput, match=r"r\.json"):
            run("trigger", "advance", "--from", tmp_path / "r.json")
    with pytest.raises(NotFound, match="lineside train --trigger writes it"):
        run("trigger", "advance", "--from", tmp_path / "none.json")
    assert len(json.loads(run("trigger", "show", opened, "--json"))["trail"]) == 2


def test_a_trigger_of_the_first_version_is_read(opened):
    text = b'{"schema": "1.0", "id": "t-1", "model": "0f", "reason": "golden", "created_ms": 5}'
    assert read_document(text, Trigger, where="t").evidence == [] and opened
