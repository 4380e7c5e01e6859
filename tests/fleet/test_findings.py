"""What other parts find, and what stands for what: one open alert a key, critical over lesser, the monitor's outage."""

from __future__ import annotations

import msgspec
import pytest

from device_agent.contract.alert import Alert
from fleet.alert_store import write_changes
from fleet.alerts import AlertBook, Finding
from fleet.drafts import dedupe_key, severity_of
from fleet.reading import Reading
from fleet.registry import Device, Quality, Registry
from fleet.routes.outbox import plan
from fleet.schema import OUTBOX
from fleet.wording import guess_cause, guess_common_cause

SAME = Quality(seen=50, first=(120.0, 800.0, 2.0), recent=(120.0, 800.0, 2.0))
DARK = msgspec.structs.replace(SAME, recent=(60.0, 200.0, 2.0))


def registry(count=4):
    names = [f"cam-{k}" for k in range(count)]
    return Registry({name: Device(device=name, site="hall", product="tin", imported=True, interval_ms=1000)
                     for name in names})  # fmt: skip


def reading(device="cam-0", *, level=0, score=0.0, frozen=False, excess=None, **fields):
    return Reading(
        device=device, model="ab" * 8, at_ms=100_000, score=score, warn_at=8.0, page_at=12.0, level=level,
        frozen=frozen,
        armed=True, stream="low+", onset_ms=90_000, log_e=score, ratio=2.0, ratio_low=1.5, ratio_high=2.5,
        independent=200.0, peers=3, windows=100, excess=excess, **fields,
    )  # fmt: skip


def silent(device="cam-0", **changes):
    return Finding(**{"stream": "silent", "scope_kind": "device", "scope": device, "severity": "warn",
                      "onset_ms": 0, "text": f"{device}: silent", **changes})  # fmt: skip


def said(changes):
    return [(change.what, change.alert.stream, change.alert.scope) for change in changes]


def test_a_finding_is_one_alert_however_often_it_is_reported():
    book = AlertBook(registry())
    assert said(book.report(silent(), 1)) == [("opened", "silent", "cam-0")]
    assert book.report(silent(), 2) == []
    assert said(book.report(silent(text="cam-0: silent for an hour"), 3)) == [("updated", "silent", "cam-0")]
    assert said(book.report(silent(severity="page"), 4)) == [("raised", "silent", "cam-0")]
    assert book.open[next(iter(book.open))].severity == "page"
    assert said(book.retract(silent(), "heard again", 5)) == [("closed", "silent", "cam-0")] and not book.open
    assert said(book.report(silent(), 6)) == [("opened", "silent", "cam-0")]


def test_an_acknowledged_finding_stays_closed_until_it_was_over_once():
    book = AlertBook(registry())
    (change,) = book.report(silent(), 1)
    assert said(book.acknowledge(change.alert.id, "acknowledged", 2)) == [("closed", "silent", "cam-0")]
    assert book.report(silent(), 3) == []
    book.retract(silent(), "heard again", 4)
    assert said(book.report(silent(), 5)) == [("opened", "silent", "cam-0")]


def test_an_outage_of_the_monitor_covers_silent_devices_and_no_others():
    book = AlertBook(registry())
    book.report(silent("cam-0"), 1)
    golden = Finding(stream="golden", scope_kind="device", scope="cam-1", severity="critical", onset_ms=0, text="x")
    book.report(golden, 1)
    assert said(book.outage(True, 2)) == [("inhibited", "silent", "cam-0")]
    assert [change.alert.inhibited_by for change in book.report(silent("cam-2"), 3)] == ["monitor"]
    assert book.outage(True, 4) == []
    assert sorted(said(book.outage(False, 5))) == [("raised", "silent", "cam-0"), ("raised", "silent", "cam-2")]


def test_a_critical_alert_stands_for_lesser_ones_of_its_scope_until_it_closes():
    book = AlertBook(registry(2))
    readings = {"cam-0": reading(level=1, score=9.0)}
    book.step(readings, {"cam-0"}, 1)
    frozen = {"cam-0": reading(level=1, score=9.0, frozen=True)}
    assert said(book.step(frozen, {"cam-0"}, 2)) == [("opened", "frozen", "cam-0"), ("inhibited", "low+", "cam-0")]
    changes = book.step(readings, {"cam-0"}, 3)
    assert said(changes)[:2] == [("closed", "frozen", "cam-0"), ("raised", "low+", "cam-0")]


def test_a_silent_site_stands_for_its_silent_devices():
    book = AlertBook(registry())
    book.report(silent("cam-0"), 1)
    site = Finding(stream="silent", scope_kind="site", scope="hall", product="tin", severity="page", onset_ms=0,
                   text="hall: silent", devices=["cam-0", "cam-1", "cam-2"])  # fmt: skip
    assert said(book.report(site, 2)) == [("opened", "silent", "hall"), ("inhibited", "silent", "cam-0")]
    assert [change.alert.inhibited_by != "" for change in book.report(silent("cam-1"), 3)] == [True]
    drift = book.step({"cam-0": reading(level=2, score=13.0)}, {"cam-0"}, 4)
    assert said(drift) == [("opened", "low+", "cam-0")] and not drift[0].alert.inhibited_by, "of another family"
    ended = said(book.retract(site, "heard again", 5))
    assert ended[0] == ("closed", "silent", "hall") and ("raised", "silent", "cam-0") in ended


def test_a_new_product_is_no_end_of_silence():
    book = AlertBook(registry())
    book.report(silent(), 1)
    book.step({"cam-0": reading(level=2, score=13.0)}, {"cam-0"}, 1)
    assert said(book.calm({"cam-0"}, "change-over", 2)) == [("closed", "low+", "cam-0")]
    assert [alert.stream for alert in book.open.values()] == ["silent"]


@pytest.mark.parametrize(
    ("level", "excess", "severity"),
    [(0, 0.5, None), (1, 0.5, "warn"), (2, 0.20, "page"), (2, 0.21, "critical"), (2, None, "page")],
)
def test_over_a_fifth_of_strange_frames_is_critical_once_it_pages(level, excess, severity):
    assert severity_of(reading(level=level, score=13.0 * level, excess=excess)) == severity


def test_one_key_for_all_streams_of_the_detector_and_one_for_each_other_finding():
    def key(stream):
        return dedupe_key(Alert(id="x", severity="warn", scope_kind="device", scope="cam-0", site="", model="",
                                stream=stream, opened_ms=0, onset_ms=0, updated_ms=0, text=""))  # fmt: skip

    assert key("low+") == key("def-:scratch") != key("frozen") and key("silent") != key("flapping")


def test_causes_come_with_their_evidence():
    assert guess_cause(SAME, steady=3).endswith("3 devices of the same site and product look normal")
    assert guess_cause(SAME, fresh_windows=12).startswith("model: odd since its first reports here (12 so far)")
    assert guess_cause(DARK, fresh_windows=12).startswith("light"), "what the pictures show comes first"
    assert guess_cause(Quality(), fresh_windows=3).startswith("model") and guess_cause(Quality()).startswith("unknown")
    assert guess_common_cause("light", 3, 4, 5, "cam-1: light: x", new_models=0).startswith("light: 3 of the 4")
    assert guess_common_cause("light", 2, 4, 5, "", new_models=4).startswith("model: 4 of the 4")
    assert guess_common_cause("product", 4, 4, 5, "", new_models=0).startswith("product or material: 4 of 5")


def test_a_lamp_that_fails_over_a_site_is_not_taken_for_a_product():
    known = registry()
    for name in known.devices:
        known._quality[name] = DARK
    book = AlertBook(known)
    changed = {name: reading(name, level=2, score=14.0) for name in known.devices}
    (change,) = book.step(changed, set(changed), 1)
    assert change.alert.scope == "hall" and change.alert.cause.startswith(
        "light: 4 of the 4 devices that changed show it"
    )


def test_a_change_is_stored_with_the_word_that_it_is_to_be_told(plant):
    engine, book = plant.open(), AlertBook(registry())
    with engine.begin() as tx:
        write_changes(tx, book.report(silent(), 1))
        write_changes(tx, book.report(silent(text="newer"), 2))
        assert [row.fresh for row in tx.execute(OUTBOX.select())] == [True]
        assert plan(tx, [], 3) == 1 and plan(tx, [], 4) == 0
        write_changes(tx, book.report(silent(text="newest"), 5))
        assert plan(tx, [], 6) == 0, "newer figures are nothing to tell"
