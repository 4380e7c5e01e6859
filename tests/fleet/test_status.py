"""Status: what is said of devices, and of the monitor itself when it cannot hear them."""

from __future__ import annotations

import msgspec
import pytest
from click.testing import CliRunner
from sqlalchemy import event, text

from fleet.alerts import read_alerts
from fleet.cli import cli
from fleet.detector_fleet import Settings
from fleet.heartbeat import STALE_MS, Heartbeat, read_heartbeat, say_trouble, write_heartbeat
from fleet.inbox import read_batch
from fleet.ingest import Ingest
from fleet.schema import ALERT, DEVICE, REPORT
from fleet.status import read_status

from .conftest import START_MS

BEAT = Heartbeat(at_ms=START_MS, connected=True, since_ms=START_MS - 60_000)


def filled(plant, look="healthy", windows=70):
    """A store where cam-1 sent reports of 20 frames each second, and the time of the last one."""
    engine = plant.open(places={"cam-1": ("hall", "tin")})
    ingest, speaker = Ingest(engine, Settings(interval_ms=1000)), plant.speaker("cam-1", seed=2)
    ingest.registry.hear_birth("cam-1", speaker.birth(), START_MS)
    for window in range(windows):
        message = speaker.message(speaker.report("healthy" if window < 30 else look))
        ingest.process(read_batch([message]), message.received_ms)
    return engine, message.received_ms


def status_of(engine, now_ms, beat=None):
    with engine.begin() as tx:
        if beat:
            write_heartbeat(tx, beat)
        return read_status(tx, now_ms)


def test_without_its_broker_the_monitor_is_blamed_and_not_the_devices(plant):
    engine, last_ms = filled(plant)
    late_ms = last_ms + 3_600_000
    assert status_of(engine, late_ms).devices[0].health == "silent"
    beat = Heartbeat(at_ms=late_ms, connected=False, since_ms=last_ms + 500)
    found = status_of(engine, late_ms, beat)
    assert "has had no broker since 2025-" in found.trouble and found.monitor == beat
    assert (found.devices[0].health, found.devices[0].frames_per_minute) == ("online", 0.0)


@pytest.mark.parametrize(
    ("beat", "says"),
    [
        (None, "No monitor has served"),
        (BEAT.next(START_MS + 9_000, connected=True, failing=False, ended=True), "was ended at"),
        (BEAT.next(START_MS + 9_000, connected=False, failing=False), "no broker since 2025-10-09 08:53:29"),
        (BEAT.next(START_MS + 9_000, connected=True, failing=True), "cannot write its store"),
        (BEAT.next(START_MS + 9_000, connected=True, failing=False), ""),
    ],
)
def test_what_ails_the_monitor_is_said(beat, says):
    assert says in say_trouble(beat, START_MS + 10_000)
    assert bool(says) == bool(say_trouble(beat, START_MS + 10_000))


def test_a_monitor_that_was_killed_is_noticed_and_devices_stand_as_it_left_them():
    late_ms = START_MS + STALE_MS + 1
    assert "has written nothing since" in say_trouble(BEAT, late_ms) and BEAT.heard(late_ms).until_ms == START_MS
    assert say_trouble(BEAT, late_ms - 1) == "" and BEAT.heard(late_ms - 1).until_ms == late_ms - 1


def test_a_beat_from_the_future_is_of_a_clock_that_was_set_back():
    early_ms = START_MS - 3_600_000
    assert "has written nothing since" in say_trouble(BEAT, early_ms) and BEAT.heard(early_ms).until_ms == early_ms


def test_a_monitor_that_starts_again_blames_no_device_for_what_it_did_not_hear(plant):
    engine, last_ms = filled(plant)
    ended = Heartbeat(at_ms=last_ms + 500, connected=True, since_ms=START_MS, ended=True)
    back_ms = last_ms + 3_600_000
    away = Heartbeat.first(ended, back_ms).next(back_ms, connected=False, failing=False)
    assert status_of(engine, back_ms, away).devices[0].health == "online"
    assert away.since_ms == last_ms + 500
    here = away.next(back_ms + 1_000, connected=True, failing=False)
    assert status_of(engine, back_ms + 2_000, here).devices[0].health == "online"
    late_ms = back_ms + 40_000
    assert status_of(engine, late_ms, here.next(late_ms, connected=True, failing=False)).devices[0].health == "silent"


def test_a_device_that_was_silent_before_a_restart_is_silent_after_it(plant):
    engine, last_ms = filled(plant)
    ended = Heartbeat(at_ms=last_ms + 60_000, connected=True, since_ms=START_MS, ended=True)
    back_ms = last_ms + 3_600_000
    here = Heartbeat.first(ended, back_ms).next(back_ms, connected=True, failing=False)
    assert status_of(engine, back_ms, here).devices[0].health == "silent"


def test_reports_dated_ahead_by_a_clock_that_was_wrong_do_not_stretch_the_rate(plant):
    engine, last_ms = filled(plant)
    with engine.begin() as tx:
        tx.execute(text(f"update report set at_ms = at_ms + {86_400_000} where sequence > 60"))
    assert status_of(engine, last_ms - 10_000).devices[0].frames_per_minute == pytest.approx(1200)


def test_the_first_report_counts_for_its_own_interval(plant):
    engine, last_ms = filled(plant, windows=1)
    with engine.begin() as tx:
        tx.execute(text("update report set interval_ms = 500, frames = 10"))
    assert status_of(engine, last_ms).devices[0].frames_per_minute == pytest.approx(1200)


def test_a_device_that_is_named_like_a_word_of_the_document_keeps_its_alerts(plant):
    engine, _ = filled(plant, "dirty")
    with engine.begin() as tx:
        (alert,) = read_alerts(tx)
        closed = msgspec.structs.replace(alert, closed_ms=1)
        rows = [(f"{n}", "cam-1", 10 + n) for n in range(5)] + [("old", "site", 2)]
        for name, device, opened_ms in rows:
            document = msgspec.structs.replace(closed, id=name, devices=[device], opened_ms=opened_ms)
            values = {"id": name, "opened_ms": opened_ms, "closed_ms": 1}
            tx.execute(ALERT.insert().values(document=msgspec.json.encode(document).decode(), **values))
        assert [each.id for each in read_alerts(tx, closed=True, device="site", limit=2)] == ["old"]


def test_a_beat_that_says_nothing_new_is_not_written_every_turn():
    assert BEAT.next(START_MS + 4_999, connected=True, failing=False) is BEAT
    assert BEAT.next(START_MS + 5_000, connected=True, failing=False).since_ms == BEAT.since_ms
    assert BEAT.next(START_MS + 1, connected=False, failing=False).since_ms == START_MS + 1


def test_frames_a_minute_count_the_time_that_passed_and_end_with_the_reports(plant):
    engine, last_ms = filled(plant)
    assert status_of(engine, last_ms).devices[0].frames_per_minute == pytest.approx(1200)
    with engine.begin() as tx:
        tx.execute(text("delete from report where sequence between 21 and 60"))
    assert status_of(engine, last_ms).devices[0].frames_per_minute == pytest.approx(1200 * 30 / 70)
    assert status_of(engine, last_ms + 60_000).devices[0].frames_per_minute == 0


def test_intervals_and_frames_at_the_end_of_their_range_can_be_counted(plant):
    engine, last_ms = filled(plant)
    top = 2**63 - 1
    with engine.begin() as tx:
        tx.execute(REPORT.update().values(interval_ms=top, frames=top))
        tx.execute(DEVICE.update().values(interval_ms=top))
    assert status_of(engine, last_ms).devices[0].frames_per_minute > 0


def test_the_rate_reads_the_recent_reports_by_their_index(file_plant):
    engine, last_ms = filled(file_plant, windows=1)
    asked = []
    event.listen(engine, "before_cursor_execute", lambda _c, _u, sql, values, *_: asked.append((sql, values)))
    status_of(engine, last_ms)
    ((sql, values),) = [each for each in asked if "FROM device JOIN report" in each[0]]
    with engine.connect() as tx:
        plan = " ".join(row[3] for row in tx.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}", values))
    assert "SEARCH report USING INDEX report_time (device=? AND at_ms>? AND at_ms<?)" in plan


def test_an_alert_of_a_device_that_went_silent_is_marked(plant):
    engine, last_ms = filled(plant, "dirty")
    found = status_of(engine, last_ms + 3_600_000)
    assert (found.devices[0].severity, found.devices[0].silent_since_ms) == ("critical", last_ms)
    assert found.silent == {"cam-1": last_ms}
    assert status_of(engine, last_ms).silent == {}
    status = CliRunner().invoke(cli, ["status", "--store", plant.url])
    assert "critical, silent" in status.stdout


def test_names_of_devices_are_neither_markup_nor_orders_to_the_terminal(plant):
    engine, speaker = plant.open(models=False), plant.speaker("cam-1")
    birth = msgspec.structs.replace(speaker.birth(), model_name="[/red]\x1b[2J[link]")
    ingest = Ingest(engine, Settings(interval_ms=1000))
    batch = read_batch([speaker.message(speaker.report())])
    batch.births.append(("cam-1", birth, START_MS))
    ingest.process(batch, START_MS)
    for command in ("status", "models list"):
        result = CliRunner().invoke(cli, [*command.split(), "--store", plant.url])
        assert result.exit_code == 0 and "[/red]\ufffd[2J" in result.stdout and "\x1b" not in result.stdout


def test_a_heartbeat_is_read_as_it_was_written(plant):
    engine = plant.open()
    with engine.begin() as tx:
        assert read_heartbeat(tx) is None
        for beat in (BEAT, BEAT.next(START_MS + 9_000, connected=False, failing=True)):
            write_heartbeat(tx, beat)
            assert read_heartbeat(tx) == beat
