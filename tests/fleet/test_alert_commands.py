"""Commands around alerts, as a person gives them."""

from __future__ import annotations

import json

import click
import pytest
from click.testing import CliRunner

from device_agent.contract.errors import BadInput, NotFound, Unreachable
from fleet.cli import cli
from fleet.detector_fleet import Settings
from fleet.inbox import read_batch
from fleet.ingest import Ingest


@pytest.fixture
def run(plant):
    """`run("alerts", "--json")` on the plant's store: stdout; errors of ours are raised."""

    def call(*arguments, store=True):
        given = [*arguments, *(["--store", plant.url] if store else [])]
        result = CliRunner().invoke(cli, given, standalone_mode=False)
        if result.exception:
            raise result.exception
        return result.stdout

    return call


@pytest.fixture
def alert(plant, run):
    """A store with one open alert of a dirty lens; its id."""
    ingest, speaker = Ingest(plant.open(), Settings(interval_ms=1000)), plant.speaker("cam-1", seed=2)
    for window in range(70):
        message = speaker.message(speaker.report("healthy" if window < 30 else "dirty"))
        ingest.process(read_batch([message]), message.received_ms)
    (found,) = json.loads(run("alerts", "--json"))
    return found["id"]


def test_taking_note_keeps_an_alert_open_and_says_who(run, alert):
    run("alerts", "ack", alert, "--keep-open", "--by", "ann", "--note", "on my way")
    (found,) = json.loads(run("alerts", "--json"))
    assert (found["acknowledged_by"], found["acknowledged_note"]) == ("ann", "on my way")
    assert "open; ann takes note: on my way" in run("alerts")


def test_a_silence_shows_on_the_alert_until_it_is_ended(run, alert):
    made = run("silence", "add", "--match", "device=cam-*", "--for", "2h", "--reason", "lamp", "--by", "ann").strip()
    assert f"silenced by {made} until" in run("alerts")
    (listed,) = json.loads(run("silence", "list", "--json"))
    assert (listed["id"], listed["reason"], listed["matcher"]) == (made, "lamp", {"device": ["cam-*"]})
    assert "now" in run("silence", "list")
    run("silence", "expire", made)
    assert "silenced" not in run("alerts") and run("silence", "list") == ""
    assert json.loads(run("silence", "list", "--all", "--json"))[0]["expired_ms"]


def test_windows_are_planned_ahead(run, plant):
    plant.open()
    span = ("--from", "2090-01-01T06:00", "--until", "2090-01-01T07:00+00:00", "--reason", "oil")
    run("maintenance", "add", "--site", "hall-*", "--weekly", *span)
    run("maintenance", "add", "--site", "yard", "--change-over", *span)
    listed = json.loads(run("silence", "list", "--json"))
    assert {(each["kind"], each["weekly"]) for each in listed} == {("maintenance", True), ("changeover", False)}
    assert all(each["until_ms"] - each["from_ms"] == 3_600_000 for each in listed)
    assert "every week" in run("silence", "list")


@pytest.mark.parametrize(
    "arguments",
    [
        ("maintenance", "add", "--from", "2090-01-01", "--until", "2090-01-02", "--reason", "x"),
        ("maintenance", "add", "--site", "a", "--from", "soon", "--until", "2090-01-02", "--reason", "x"),
        ("silence", "add", "--match", "site=a", "--for", "2 hours", "--reason", "x"),
        ("silence", "add", "--match", "site=a", "--for", "0h", "--reason", "x"),
        ("maintenance", "add", "--match", "stream=low+", "--change-over", "--from", "2090-01-01", "--until",
         "2090-01-02", "--reason", "x"),
        ("alerts", "judge", "x"),
    ],
)  # fmt: skip
def test_a_wrong_command_line_is_a_usage_error(run, plant, arguments):
    plant.open()
    with pytest.raises(click.UsageError):
        run(*arguments)


def test_judgements_go_into_the_ledger(run, alert):
    run("alerts", "judge", alert, "--false", "--by", "ann", "--note", "lens was fine")
    found = json.loads(run("alerts", "ledger", "--json", "--pages-a-week", "1", "--since", "2025-10-01T00:00"))
    assert (found["pages"], found["false"], found["unjudged"]) == (1, 1, 0)
    run("alerts", "judge", alert, "--true")
    assert "1 pages since" in (text := run("alerts", "ledger")) and "1 true, 0 false" in text
    assert "judged true" in run("alerts")
    with pytest.raises(NotFound, match="no alert 'nothing'"):
        run("alerts", "judge", "nothing", "--true")


def test_replay_says_what_would_have_fired_by_severity_scope_and_route(run, alert, plant):
    path = plant.folder / "routes.toml"
    path.write_text("[[route]]\nname='all'\nkind='memory'\nseverity='info'\n"
                    "[[route]]\nname='yard'\nkind='memory'\nmatch={site=['yard']}\n")  # fmt: skip
    found = json.loads(run("replay", "--json", "--routes", str(path), "--hold-windows", "0"))
    assert found["fired"] == sum(found["by_severity"].values()) == sum(found["by_scope"].values()) >= 1
    assert found["by_scope"] == {"device cam-1": found["fired"]} and found["silenced"] == 0
    assert {route["route"]: route["alerts"] for route in found["routes"]} == {"all": found["fired"], "yard": 0}
    assert "would have fired" in (text := run("replay", "--routes", str(path))) and "route yard: 0 alerts" in text
    run("maintenance", "add", "--match", "device=cam-1", "--from", "2020-01-01", "--until", "2020-01-02", "--weekly",
        "--reason", "x")  # fmt: skip
    assert json.loads(run("replay", "--json"))["fired"] == found["fired"], "a window elsewhere silences nothing here"


def test_routes_are_checked_and_tried_out(run, plant):
    path = plant.folder / "routes.toml"
    path.write_text("[[route]]\nname='all'\nkind='memory'\nafter_min=5\n")
    said = run("routes", "check", str(path), store=False)
    assert "all memory: severity>=page, when nobody took note for 5 min; at most 12 messages a minute" in said
    assert run("routes", "test", str(path), store=False) == "all: taken\n"
    with pytest.raises(NotFound, match="no route other"):
        run("routes", "test", str(path), "--route", "other", store=False)
    path.write_text("[[route]]\nname='am'\nkind='alertmanager'\nurl='http://127.0.0.1:9'\n")
    with pytest.raises(Unreachable, match="not taken by am"):
        run("routes", "test", str(path), store=False)
    path.write_text("[[route]]\nname='am'\nkind='alertmanager'\nurl='nonsense'\n")
    with pytest.raises(BadInput, match="route am: url: must read like"):
        run("routes", "check", str(path), store=False)


def test_a_failing_route_is_shown(run, alert, plant):
    from fleet.routes.state import RouteState, write_state
    from fleet.store import open_store

    with open_store(plant.url).begin() as tx:
        write_state(tx, RouteState(route="mail", kind="apprise", failures=3, failing_ms=0, error="mail\x1b[2J is away"))
    said = run("routes", "status")
    assert "mail apprise: 0 messages taken" in said and "fails since 1970" in said and "\x1b" not in said
    assert json.loads(run("routes", "status", "--json"))[0]["failures"] == 3
