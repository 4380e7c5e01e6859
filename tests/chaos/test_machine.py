"""What happens to the machine under an agent: memory, disk, spool, clock, camera."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from fleet.chaos.audit import read_stored
from fleet.schema import REPORT
from fleet.store import open_store

pytestmark = [pytest.mark.slow, pytest.mark.broker]
HOUR_S, YEAR_S = 3600, 365.25 * 86_400


def need(stage, fault):
    if fault in stage.absent:
        pytest.skip(f"system: {fault}: {stage.absent[fault]}")


def test_out_of_memory_is_a_restart_without_loss_and_the_cause_is_told(rehearse):
    stage = rehearse(agents=3)
    need(stage, "limit_memory")
    stage.wait_for_reports(2, device=2)
    assert stage.do("limit_memory")
    stage.wait_until(lambda: stage.counts["died"] > 0)
    stage.run_for(2.5)
    stage.wait_for_reports(3, device=2)
    accounts = stage.finish()
    assert accounts[2].kills >= 1 and accounts[2].gaps >= 1
    assert any("the memory limit" in text for text in stage.events("restarted"))


def test_a_full_disk_stops_nothing(rehearse):
    stage = rehearse(agents=2)
    need(stage, "fill_disk")
    disk = stage.disks[stage.devices[1].name]
    disk.fill()
    stage.wait_until(lambda: "spool_unwritable" in stage.journal(1))
    answers = stage.devices[1].answers(0)
    seen = answers.stat().st_size
    stage.run_for(3.0)
    assert stage.devices[1].program.running and answers.stat().st_size > seen, "inference goes on"
    disk.empty()
    stage.wait_until(lambda: "spool_writable" in stage.journal(1))
    accounts = stage.finish()
    assert accounts[1].open == 0 and stage.events("spool_unwritable") and stage.events("spool_writable")


@pytest.mark.parametrize("truncate", [False, True], ids=["flipped", "cut"])
def test_a_corrupt_spool_is_salvaged_and_kept(rehearse, truncate):
    stage = rehearse(interval_s=0.1)
    device = stage.devices[0]
    stage.broker.kill()
    stage.wait_until(lambda: "broker_unreachable" in stage.journal())
    stage.run_for(12.0)
    device.stop()
    said = device.corrupt_spool(0.8, 4096, truncate=truncate)
    waiting = device.snapshots[0].waiting
    assert len(waiting) > 80, said
    stage.restart_broker()
    device.start()
    stage.wait_for_reports(3)
    (account,) = stage.finish()
    assert list(device.state.glob("spool.corrupt-*")), "moved aside, not deleted"
    assert stage.events("spool_salvaged") and account.gaps >= 1
    assert 0 < account.damaged < len(waiting), "something was lost, something saved"


def test_clocks_that_jump_fool_no_timeout_and_are_repaired(rehearse):
    stage = rehearse()
    device = stage.devices[0]
    ahead_ms = time.time() * 1000 - time.monotonic() * 1000
    for offset_s in (HOUR_S, -HOUR_S, 10 * YEAR_S, -10 * YEAR_S, 0):
        device.set_clock(offset_s)
        stage.wait_for_reports(4)
    assert stage.counts["died"] == 0 and "broker_unreachable" not in stage.journal()
    device.set_clock(-10 * YEAR_S)
    device.kill()
    device.start()
    stage.wait_for_reports(4)
    device.kill()
    stage.broker.kill()
    device.start()  # the whole run is offline and its clock wrong
    stage.run_for(5.0)
    stage.restart_broker()
    stage.wait_for_reports(8)
    (account,) = stage.finish()
    with open_store(stage.url).connect() as tx:
        rows = {(row.epoch, row.sequence): row.at_ms for row in tx.execute(REPORT.select())}
    reports = read_stored(open_store(stage.url), device.name)
    off_ms = {(one.epoch, one.sequence): rows[one.epoch, one.sequence] - ahead_ms - one.monotonic_ms for one in reports}
    assert max(map(abs, off_ms.values())) < 1000, sorted(off_ms.values())
    wrong = [one for one in reports if abs(one.wall_ms - ahead_ms - one.monotonic_ms) > 3_000_000]
    assert len(wrong) > 12, "the device's own word was far off"
    steps = stage.events("clock_step")
    assert len(steps) >= 4 and account.open < 60


def test_a_hung_camera_is_killed_within_seconds_and_replaced(rehearse, capsys):
    stage = rehearse()
    device = stage.devices[0]
    stopped = device.stop_camera()
    assert len(stopped) == 1
    start_s = time.monotonic()
    stage.wait_until(lambda: not Path(f"/proc/{stopped[0]}").exists(), 20)
    spent_s = time.monotonic() - start_s
    with capsys.disabled():
        print(f"\na capture process that hangs is killed after {spent_s:.1f} s")
    assert spent_s < 10, "5 s of silence on a loaded machine"
    stage.wait_until(lambda: "camera_found" in stage.journal())
    stage.wait_for_reports(3)
    stage.finish()
    assert stage.events("camera_lost") and stage.events("camera_found")
