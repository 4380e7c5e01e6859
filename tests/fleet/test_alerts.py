"""Who is alerted of what: a dirty lens pages its device at once, a change-over is one alert of the site."""

from __future__ import annotations

import msgspec
import pytest

from fleet.alerts import read_alerts
from fleet.detector_fleet import Settings
from fleet.inbox import read_batch
from fleet.ingest import Ingest
from fleet.replay import replay
from fleet.requests import ask

SETTINGS = Settings(interval_ms=1000)
PLACES = {
    "cam-1a": ("line-1", "bracket"),
    "cam-1b": ("line-1", "bracket"),
    "cam-2a": ("line-2", "housing"),
    "cam-2b": ("line-2", "housing"),
    "cam-2c": ("line-2", "housing"),
}


def run(ingest, speakers, windows, look=lambda device, window: "healthy", **drawn):
    """All changes of alerts over some windows, each with the window in which it came."""
    changes = []
    for window in range(windows):
        messages = [s.message(s.report(look(s.device, window), **drawn)) for s in speakers]
        outcome = ingest.process(read_batch(messages), messages[0].received_ms)
        changes += [(window, change) for change in outcome.changes if change.what != "updated"]
    return changes


def line(plant, seed=0, places=PLACES):
    speakers = [plant.speaker(d, model=k % 3, seed=100 * seed + k) for k, d in enumerate(places)]
    engine = plant.open(places=places)
    ingest = Ingest(engine, SETTINGS)
    for speaker in speakers:
        ingest.registry.hear_birth(speaker.device, speaker.birth(), 0)
    return engine, ingest, speakers


@pytest.mark.parametrize("seed", range(3))
def test_a_dirty_lens_pages_and_a_changeover_is_one_site_alert(plant, seed):
    engine, ingest, speakers = line(plant, seed)
    assert run(ingest, speakers, 40) == []

    def look(device, window):
        if device == "cam-1b" and window >= 5:
            return "dirty"
        late = {"cam-2a": 5, "cam-2b": 6, "cam-2c": 7}
        return "changed" if window >= late.get(device, 10**9) else "healthy"

    changes = run(ingest, speakers, 60, look)
    devices = [(w, c.alert) for w, c in changes if c.alert.scope_kind == "device" and not c.alert.inhibited_by]
    sites = [(w, c.alert) for w, c in changes if c.alert.scope_kind == "site"]
    assert {alert.scope for _, alert in devices} == {"cam-1b"}
    paged = [w for w, alert in devices if alert.severity == "page"]
    assert paged and paged[0] - 5 <= 30
    assert len({alert.id for _, alert in sites}) == 1 and sites[0][1].devices == ["cam-2a", "cam-2b", "cam-2c"]
    assert sites[0][1].scope == sites[0][1].site == "line-2"
    assert "lens" in devices[-1][1].cause and "product" in sites[0][1].cause
    with engine.connect() as tx:
        open_alerts = read_alerts(tx)
        past = replay(tx, SETTINGS)
    assert {alert.scope for alert in open_alerts if not alert.inhibited_by} == {"cam-1b", "line-2"}
    assert past.reports == 500 and past.pages >= 1
    assert {alert.scope for alert in past.alerts if not alert.inhibited_by} == {"cam-1b", "line-2"}


def test_the_text_says_what_how_much_since_when_and_how_sure(plant):
    _, ingest, speakers = line(plant, places={"cam-1b": ("line-1", "bracket")})
    changes = run(ingest, speakers, 70, lambda device, window: "dirty" if window >= 40 else "healthy")
    alert = changes[-1][1].alert
    assert alert.severity == "page" and "x baseline (" in alert.text and "since 20" in alert.text
    assert "e-value 10^" in alert.text and "independent frames" in alert.text and "no peers" in alert.text
    assert alert.ratio > 1.5 and alert.ratio_low < alert.ratio < alert.ratio_high
    onset = (alert.onset_ms - speakers[0].message(speakers[0].report()).received_ms) / 1000 + 71
    assert abs(onset - 40) <= 4


def test_a_frozen_camera_is_critical_after_three_reports_even_in_a_site_alert(plant):
    _, ingest, speakers = line(plant)
    run(ingest, speakers, 30)
    changes = run(ingest, speakers, 4, lambda device, window: "frozen" if device == "cam-2a" else "healthy", stay=1)
    (window, change), *_ = changes
    assert window <= 2 and (change.alert.severity, change.alert.scope) == ("critical", "cam-2a")
    assert change.alert.stream == "frozen" and "camera" in change.alert.cause
    after = run(ingest, speakers, 1, stay=1)
    assert [(change.what, change.alert.scope) for _, change in after] == [("closed", "cam-2a")]


def test_a_changeover_by_command_closes_and_starts_anew(plant):
    engine, ingest, speakers = line(plant)
    run(ingest, speakers, 30)
    run(ingest, speakers, 60, lambda device, window: "changed" if device.startswith("cam-2") else "healthy")
    assert any(alert.scope == "line-2" for alert in ingest.alerts.open.values())
    with engine.begin() as tx:
        ask(tx, "changeover", "line-2", 0)
    changes = run(ingest, speakers, 1)
    assert {change.what for _, change in changes} == {"closed"}
    assert not ingest.alerts.open
    assert {change.alert.closed_reason for _, change in changes} == {"change-over"}


def test_alerts_survive_a_restart(plant):
    engine, ingest, speakers = line(plant)
    run(ingest, speakers, 40)
    run(ingest, speakers, 40, lambda device, window: "dirty" if device == "cam-1b" else "healthy")
    before = ingest.alerts.open
    assert before
    again = Ingest(engine, SETTINGS)
    assert again.alerts.open == before
    new_pages = [c for _, c in run(again, speakers, 5, lambda d, w: "dirty" if d == "cam-1b" else "healthy")]
    assert not [change for change in new_pages if change.what == "opened"], "one open alert each"


def test_a_new_model_closes_what_the_old_one_raised(plant):
    _, ingest, speakers = line(plant, places={"cam-1b": ("line-1", "bracket")})
    run(ingest, speakers, 70, lambda device, window: "dirty" if window >= 40 else "healthy")
    assert ingest.alerts.open
    speakers[0].model = plant.model_ids[1]
    (change,) = [change for _, change in run(ingest, speakers, 1)]
    assert change.what == "closed" and "now runs model" in change.alert.closed_reason
    assert ingest.fleet.readings["cam-1b"].windows == 1


def test_a_louder_dial_pages_sooner(plant):
    quiet, loud = (Ingest(plant.open(), Settings(interval_ms=1000, pages_a_week=b)) for b in (0.001, 1000.0))
    assert quiet.fleet.page_at > loud.fleet.page_at + 10
    assert msgspec.structs.asdict(SETTINGS)["pages_a_week"] == 1.0
