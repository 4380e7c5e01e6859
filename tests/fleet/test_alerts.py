"""Who is alerted of what: a dirty lens pages its device at once, a change-over is one alert of the site."""

from __future__ import annotations

import json

import msgspec
import pytest
from sqlalchemy import select, update

from device_agent.contract.report import ImageQuality
from fleet.alerts import Change, read_alerts
from fleet.commands.serve import _announce as announce
from fleet.detector_fleet import Settings
from fleet.inbox import read_batch
from fleet.ingest import Ingest
from fleet.registry import Device, Quality, import_places
from fleet.replay import replay
from fleet.requests import ask
from fleet.schema import ALERT
from fleet.wording import guess_cause, name_stream, say_time

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
    paged = [w for w, alert in devices if alert.severity in ("page", "critical")]
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
    assert alert.severity == "critical" and "x baseline (" in alert.text and "since 20" in alert.text
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


HALL = {f"cam-{k}": ("hall", "tin") for k in range(4)}


def covered(plant, names):
    """A hall where the dirty cam-1 was paged first and a change of all devices then covered its page."""
    engine, ingest, speakers = line(plant, places={name: HALL[name] for name in names})
    run(ingest, speakers, 40)
    run(ingest, speakers, 40, lambda device, window: "dirty" if device == "cam-1" else "healthy")
    run(ingest, speakers, 60, lambda device, window: "dirty" if device == "cam-1" else "changed")
    own, site = sorted(ingest.alerts.open.values(), key=lambda alert: alert.scope_kind)
    assert (own.scope, own.inhibited_by, site.scope) == ("cam-1", site.id, "hall") and len(site.devices) == len(names)
    return engine, ingest, speakers, own, site


def test_a_changeover_of_one_device_brings_the_covered_page_of_another_back(plant):
    engine, ingest, speakers, own, site = covered(plant, ["cam-0", "cam-1", "cam-2"])
    with engine.begin() as tx:
        ask(tx, "changeover", "cam-0", 0)
    changes = [change for _, change in run(ingest, speakers, 1, lambda device, window: "dirty")]
    assert [(change.what, change.alert.id) for change in changes[:2]] == [("closed", site.id), ("raised", own.id)]
    assert "fewer than 3" in changes[0].alert.closed_reason
    with engine.connect() as tx:
        assert own.id in {alert.id for alert in read_alerts(tx) if not alert.inhibited_by}


def test_a_site_alert_goes_on_without_the_device_that_was_acknowledged(plant):
    engine, ingest, speakers, own, site = covered(plant, list(HALL))
    with engine.begin() as tx:
        ask(tx, "acknowledge", own.id, 0)
    changes = [change for _, change in run(ingest, speakers, 1, lambda device, window: "changed")]
    assert [(change.what, change.alert.id) for change in changes] == [("closed", own.id)]
    assert ingest.alerts.open[site.id].devices == ["cam-0", "cam-2", "cam-3"]


def test_a_site_alert_of_a_store_that_kept_no_product_is_still_the_one_of_its_site(plant):
    engine, ingest, speakers, _, site = covered(plant, ["cam-0", "cam-1", "cam-2"])
    with engine.begin() as tx:
        for row in tx.execute(select(ALERT)).all():
            document = json.loads(row.document)
            del document["product"]
            tx.execute(update(ALERT).where(ALERT.c.id == row.id).values(document=json.dumps(document)))
    ingest = Ingest(engine, SETTINGS)
    run(ingest, speakers, 1, lambda device, window: "changed")
    sites = [alert.id for alert in ingest.alerts.open.values() if alert.scope_kind == "site"]
    assert sites == [site.id]


def test_nothing_is_told_of_a_page_that_is_covered(plant):
    _, ingest, speakers, own, _ = covered(plant, ["cam-0", "cam-1", "cam-2"])
    assert run(ingest, speakers, 70, lambda device, window: "changed") == []
    assert own.cause.startswith("lens") and ingest.alerts.open[own.id].cause.startswith("product or parts")


def test_a_device_that_moves_leaves_the_site_alert_behind(plant):
    engine, ingest, speakers, _, site = covered(plant, list(HALL))
    with engine.begin() as tx:
        import_places(tx, [Device(device="cam-0", site="yard", product="tin", imported=True)])
        ask(tx, "devices", "", 0)
    changes = [
        change
        for _, change in run(ingest, speakers, 3, lambda device, window: "healthy" if device == "cam-0" else "changed")
    ]
    kept = ingest.alerts.open[site.id]
    assert (kept.scope, kept.site, kept.devices) == ("hall", "hall", ["cam-1", "cam-2", "cam-3"])
    assert not [change for change in changes if change.alert.scope != "cam-0"], "nobody else is paged again"


def test_an_alert_keeps_the_site_at_which_it_was_opened(plant):
    engine, ingest, speakers = line(plant, places={"cam-1": ("hall", "tin")})
    run(ingest, speakers, 70, lambda device, window: "dirty" if window >= 40 else "healthy")
    (alert,) = ingest.alerts.open.values()
    with engine.begin() as tx:
        import_places(tx, [Device(device="cam-1", site="yard", product="lid", imported=True)])
        ask(tx, "devices", "", 0)
    run(ingest, speakers, 3, lambda device, window: "dirty")
    newer = ingest.alerts.open[alert.id]
    assert newer.updated_ms > alert.updated_ms and (newer.site, newer.product) == ("hall", "tin")


def test_a_cause_that_looks_another_by_now_is_told_but_not_at_every_report(plant):
    _, ingest, speakers = line(plant, places={"cam-1": ("hall", "tin")})
    run(ingest, speakers, 40)
    run(ingest, speakers, 20, lambda device, window: "changed")
    (alert,) = ingest.alerts.open.values()
    assert alert.cause.startswith("product or parts")
    told = run(ingest, speakers, 130, lambda device, window: "changed" if window // 10 % 2 else "dirty")
    assert {change.what for _, change in told} == {"explained"} and 1 <= len(told) <= 3
    assert told[0][1].alert.cause.startswith("lens")


def test_a_step_of_the_pictures_is_seen_in_the_cause_after_two_reports():
    quality = Quality()
    for sharpness in [800] * 30 + [400] * 2:
        quality.add(ImageQuality(120, sharpness, 2))
    assert guess_cause(quality).startswith("lens")


@pytest.mark.parametrize("at_ms", [2**63 - 1, -(2**63), 10**400, -1, 0])
def test_a_time_is_said_whatever_the_number(at_ms):
    assert say_time(at_ms)


def test_words_of_others_in_an_alert_give_no_orders_to_the_terminal(plant, capsys):
    _, ingest, speakers = line(plant, places={"cam-1": ("hall", "tin")})
    run(ingest, speakers, 70, lambda device, window: "dirty" if window >= 40 else "healthy")
    (alert,) = ingest.alerts.open.values()
    announce(Change(msgspec.structs.replace(alert, text="steel\x1b[2J\nall well"), "opened"))
    assert capsys.readouterr().out.endswith("steel\ufffd[2J\ufffdall well\n")
    assert name_stream("def+:\x1b[2Jscratch") == "\ufffd[2Jscratch called"


def test_the_newest_closed_alerts_are_read_and_all_open_ones(plant):
    engine, ingest, speakers = line(plant, places={"cam-1": ("hall", "tin")})
    run(ingest, speakers, 70, lambda device, window: "dirty" if window >= 40 else "healthy")
    (alert,) = ingest.alerts.open.values()
    old = [msgspec.structs.replace(alert, id=f"old-{k}", opened_ms=k, closed_ms=k) for k in range(5)]
    other = msgspec.structs.replace(old[0], id="other", scope="cam_1", devices=["cam_1"])
    with engine.begin() as tx:
        ingest.alerts.write(tx, [Change(each, "closed") for each in [*old, other]])
        assert [found.id for found in read_alerts(tx, closed=True, limit=2)] == [alert.id, "old-4", "old-3"]
        assert [found.id for found in read_alerts(tx, closed=True, device="cam_1", limit=2)] == ["other"]


def test_a_louder_dial_pages_sooner(plant):
    quiet, loud = (Ingest(plant.open(), Settings(interval_ms=1000, pages_a_week=b)) for b in (0.001, 1000.0))
    assert quiet.fleet.page_at > loud.fleet.page_at + 10
    assert msgspec.structs.asdict(SETTINGS)["pages_a_week"] == 1.0


def test_what_all_devices_of_a_site_show_together_is_told_though_none_differs_from_its_peers(plant):
    """Peers excuse a common change so well that no device warns; those that are judged alone do not excuse it."""
    places = {f"cam-{k}": ("hall", "tin") for k in range(8)}
    engine, ingest, speakers = line(plant, places=places)
    assert run(ingest, speakers, 40) == []
    changes = run(ingest, speakers, 120, lambda _device, _window: "soiled")
    opened = [change.alert for _, change in changes if change.what == "opened"]
    assert [(alert.scope_kind, alert.scope) for alert in opened] == [("site", "hall")]
    assert "the whole site changed since" in opened[0].text and "no device differs from its peers" in opened[0].text
    assert "are judged alone show it" in opened[0].text and opened[0].devices == sorted(places)
    assert not [reading for reading in ingest.fleet.readings.values() if reading.level]
    again = Ingest(engine, SETTINGS)
    found = {name: reading.alone for name, reading in again.fleet.readings.items() if reading.alone}
    assert found == {name: one.alone for name, one in ingest.fleet.readings.items() if one.alone} and len(found) == 4
    with engine.begin() as tx:
        ask(tx, "changeover", "hall", 0)
    assert [change.what for _, change in run(ingest, speakers, 1)] == ["closed"]
    assert not [reading for reading in ingest.fleet.readings.values() if reading.alone]
