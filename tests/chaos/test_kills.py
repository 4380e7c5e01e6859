"""SIGKILL of anything at any time: every committed report is stored once, and what was open is told of by a gap."""

from __future__ import annotations

import pytest
from sqlalchemy import delete, select, update

from device_agent.contract.codec import encode
from device_agent.contract.report import GAP, read_report
from fleet.chaos.audit import audit
from fleet.schema import EVENT, REPORT
from fleet.store import open_store

pytestmark = [pytest.mark.slow, pytest.mark.broker]


def test_a_dozen_kills_among_other_faults(rehearse):
    stage = rehearse(agents=3, seed=11)
    stage.torment(kills=12, seconds=None, pause_s=0.8)
    accounts = stage.finish()
    assert stage.kills.total() >= 12 and sum(account.stored for account in accounts) > 50
    assert all(account.generated >= account.answered > 0 for account in accounts)


def test_a_kill_in_the_middle_costs_the_open_interval_and_a_gap_says_so(rehearse):
    stage = rehearse(interval_s=2.0, fps=25)
    device = stage.devices[0]
    for _ in range(2):
        stage.wait_for_reports(1)
        stage.run_for(1.0)
        device.kill()
        device.start()
    stage.wait_for_reports(1)
    (account,) = stage.finish()
    assert account.open > 10 and account.longest_open_s > 0.5 and account.gaps == account.told == 2
    assert account.answered == account.counted + account.open


@pytest.fixture
def ended(rehearse):
    stage = rehearse(interval_s=2.0, fps=25)
    stage.wait_for_reports(1)
    stage.run_for(0.7)
    stage.devices[0].kill()
    stage.devices[0].start()
    stage.wait_for_reports(2)
    (account,) = stage.finish()
    assert account.open
    return stage


def test_the_account_notices_what_does_not_add_up(ended):
    """Each book is falsified in turn."""
    engine, device = open_store(ended.url), ended.devices[0]

    def faults():
        return " ".join(audit([device], engine, ended.pace.interval_s)[0].faults)

    with engine.connect() as tx:
        rows = tx.execute(select(REPORT).order_by(REPORT.c.received_ms)).mappings().all()
    key = (REPORT.c.epoch == rows[0]["epoch"]) & (REPORT.c.sequence == rows[0]["sequence"])
    report = read_report(rows[0]["payload"])
    assert report.frames > 1 and faults() == ""

    def replace(statement):
        with engine.begin() as tx:
            tx.execute(statement)

    def restore():
        with engine.begin() as tx:
            tx.execute(delete(REPORT))
            tx.execute(REPORT.insert(), [dict(row) for row in rows])

    replace(delete(REPORT).where(key))
    assert "1 committed reports are not in the store" in faults()
    restore()
    replace(REPORT.insert().values(**{**rows[0], "sequence": 999}))
    assert "twice" in faults(), "the same report under another key"
    restore()
    import msgspec

    more = encode(msgspec.structs.replace(report, dropped=report.dropped + 1))
    replace(update(REPORT).where(key).values(payload=more))
    assert "the stamps say" in faults()
    restore()
    for row in rows:
        told = read_report(row["payload"])
        if told.flags & GAP:
            quiet = encode(msgspec.structs.replace(told, flags=told.flags & ~GAP))
            replace(update(REPORT).where(REPORT.c.epoch == told.epoch).values(payload=quiet))
    assert "no gap tells of it" in faults()
    restore()
    replace(delete(EVENT))
    assert "the monitor shows 0 gaps" in faults()
