"""Every frame that was put into the spool comes out once, whatever happens to the process or the disk."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from device_agent.contract.errors import BadInput, NotWritable
from device_agent.contract.report import GAP, MERGED, DeviceReport, read_report
from device_agent.spool import Damaged, Spool

Make = Callable[..., DeviceReport]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "spool.db"


def frames_in(spool: Spool) -> int:
    return sum(read_report(row.payload).frames for row in spool.pending(limit=-1))


def test_gives_each_report_its_key(path: Path, make_report: Make) -> None:
    spool = Spool(path)
    stored = [spool.add(make_report(5)) for _ in range(3)]
    assert [row.sequence for row in stored] == [1, 2, 3]
    assert spool.pending() == stored
    report = read_report(stored[2].payload)
    assert (report.epoch, report.sequence, report.boot) == (spool.epoch, 3, spool.boot)
    spool.close()


def test_a_number_is_never_used_again(path: Path, make_report: Make) -> None:
    first = Spool(path, wall=lambda: 1_700_000_000.0)
    first.add(make_report(), handed=True)
    first.acknowledge(first.epoch, 1)
    first.close()
    second = Spool(path, wall=lambda: 0.0)
    assert (second.epoch, second.boot, second.crashed) == (first.epoch, first.boot + 1, False)
    assert second.add(make_report()).sequence == 2
    second.close()
    assert first.boot == 1_700_000_000 // 60


def test_the_boots_of_a_replaced_disk_are_later(tmp_path: Path) -> None:
    old = Spool(tmp_path / "old.db", wall=lambda: 1_700_000_000.0)
    new = Spool(tmp_path / "new.db", wall=lambda: 1_700_086_400.0)
    assert new.boot > old.boot and new.epoch != old.epoch
    old.close()
    new.close()


def test_deletes_on_acknowledgement_only(path: Path, make_report: Make) -> None:
    spool = Spool(path)
    for _ in range(5):
        spool.add(make_report(), handed=True)
    assert spool.acknowledge(spool.epoch ^ 1, 5) == (0, 0)
    assert spool.acknowledge(spool.epoch, 3) == (3, 0)
    assert spool.acknowledge(spool.epoch, 3) == (0, 0)
    assert [row.sequence for row in spool.pending()] == [4, 5]
    with pytest.raises(BadInput, match="never sent"):
        spool.acknowledge(spool.epoch, 6)
    assert len(spool.pending()) == 2
    spool.close()


def test_the_size_is_kept_over_an_acknowledgement(path: Path, make_report: Make) -> None:
    spool = Spool(path)
    for k in range(9):
        spool.add(make_report(10 * k, seed=k), handed=k % 3 > 0)
    assert spool.acknowledge(spool.epoch, 7) == (4, 3)
    assert spool._bytes == spool._sum_bytes() > 0
    spool.close()


def test_what_was_never_sent_cannot_be_acknowledged(path: Path, make_report: Make) -> None:
    spool = Spool(path)
    rows = [spool.add(make_report()) for _ in range(5)]
    spool.hand(rows[0].id, rows[1].id)
    spool.close()
    spool = Spool(path)
    assert spool.acknowledge(spool.epoch, 5) == (2, 3)
    assert [row.sequence for row in spool.pending()] == [3, 4, 5]
    spool.close()


def test_a_killed_process_loses_nothing_that_was_stored(path: Path, make_report: Make) -> None:
    writer = (
        "import os, sys, pathlib, msgspec\n"
        "from device_agent.spool import Spool\n"
        "from device_agent.contract.report import read_report\n"
        "report = read_report(bytes.fromhex(sys.argv[2]))\n"
        "spool = Spool(pathlib.Path(sys.argv[1]))\n"
        "for _ in range(7): spool.add(report)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    from device_agent.contract.codec import encode

    command = [sys.executable, "-c", writer, str(path), encode(make_report(4)).hex()]
    assert subprocess.run(command, check=False).returncode == -9
    spool = Spool(path)
    assert spool.crashed
    rows = spool.pending()
    assert [row.sequence for row in rows] == list(range(1, 8))
    new = spool.add(make_report())
    assert new.sequence == 1 and new.epoch not in {row.epoch for row in rows}
    spool.close()


def test_every_report_is_synced(path: Path) -> None:
    spool = Spool(path)
    assert spool._run("PRAGMA synchronous").fetchone() == (2,)
    assert spool._run("PRAGMA journal_mode").fetchone() == ("wal",)
    spool.close()


def test_a_number_is_not_used_again_when_the_log_is_damaged(path: Path, make_report: Make) -> None:
    first = Spool(path)
    keys = {(row.epoch, row.sequence) for row in (first.add(make_report(seed=k), handed=True) for k in range(20))}
    content, log = path.read_bytes(), bytearray(path.with_name("spool.db-wal").read_bytes())
    first.abandon()
    log[len(log) // 2] ^= 1
    path.write_bytes(content)
    path.with_name("spool.db-wal").write_bytes(log)
    second = Spool(path)
    assert second.crashed and 0 < len(second.pending()) < 20 and second.boot == first.boot + 1
    new = {(row.epoch, row.sequence) for row in (second.add(make_report()) for _ in range(20))}
    assert not new & keys
    second.acknowledge(first.epoch, 20)
    assert {(row.epoch, row.sequence) for row in second.pending()} == new
    second.close()


def test_a_boot_is_not_begun_twice_when_the_log_is_lost(path: Path) -> None:
    first = Spool(path)
    content = path.read_bytes()
    first.abandon()
    path.write_bytes(content)
    path.with_name("spool.db-wal").unlink(missing_ok=True)
    second = Spool(path)
    assert (second.crashed, second.boot) == (True, first.boot + 1)
    second.close()


@pytest.mark.parametrize(
    ("place", "bit"), [(0, 2), (3, 1), (-1, 1)], ids=["cannot be decoded", "still decodes", "another field"]
)
def test_a_bit_that_flips_in_a_report_costs_only_that_report(
    path: Path, make_report: Make, place: int, bit: int
) -> None:
    spool = Spool(path)
    for k in range(10):
        spool.add(make_report(seed=k, model=b"model%03d" % k))
    spool.close()
    content = bytearray(path.read_bytes())
    content[content.index(b"\xc4\x08model003") + place] ^= bit
    path.write_bytes(content)
    heard: list[tuple[str, str]] = []
    spool = Spool(path, event=lambda *one: heard.append(one))
    assert [row.sequence for row in spool.pending()] == [1, 2, 3, 5, 6, 7, 8, 9, 10]
    assert heard == [("report_damaged", "lost by damage on disk: the reports with sequence 4")]
    assert [bool(spool.add(make_report()).report.flags & GAP) for _ in range(2)] == [True, False]
    spool.close()


def test_reports_that_go_bad_while_running_are_taken_out(path: Path, make_report: Make) -> None:
    heard: list[tuple[str, str]] = []
    spool = Spool(path, event=lambda *one: heard.append(one))
    for _ in range(5):
        spool.add(make_report())
    spool.add(make_report(10, same=11))
    spool._run("UPDATE report SET payload = CAST(payload AS TEXT) WHERE id = 1")
    spool._run("UPDATE report SET payload = x'ff' WHERE id IN (2, 3)")
    assert [row.sequence for row in spool.pending(limit=3)] == [1, 4, 5]
    assert [row.sequence for row in spool.pending()] == [1, 4, 5]
    assert [number for _, text in heard for number in text.rpartition("sequence ")[2].split(", ")] == ["2", "3", "6"]
    spool.close()


def test_a_bit_that_flips_in_the_numbers_is_damage(path: Path) -> None:
    spool = Spool(path)
    spool._run("UPDATE meta SET value = value + 4 WHERE name = 'next'")
    spool.abandon()
    with pytest.raises(Damaged, match="table of numbers"):
        Spool(path)


def test_a_bit_that_flips_in_the_schema_is_damage(path: Path) -> None:
    Spool(path).close()
    path.write_bytes(path.read_bytes().replace(b"CREATE TABLE report", b"CREATE \xf4ABLE report"))
    with pytest.raises(Damaged):
        Spool(path)


def test_two_agents_cannot_share_it(path: Path) -> None:
    spool = Spool(path)
    with pytest.raises(BadInput, match="another agent"):
        Spool(path)
    spool.close()


def test_a_full_disk_is_said_and_stores_nothing(path: Path, make_report: Make) -> None:
    spool = Spool(path)
    spool.add(make_report())
    pages = spool._run("PRAGMA page_count").fetchone()[0]
    spool._run(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(NotWritable, match="full"):
        for _ in range(1000):
            spool.add(make_report(100))
    kept = spool.pending(limit=-1)
    spool._run("PRAGMA max_page_count = 100000")
    assert spool.add(make_report()).sequence == kept[-1].sequence + 1
    spool.close()


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(NotWritable):
        Spool(tmp_path / "file" / "spool.db")


def test_a_later_format_is_left_alone(path: Path) -> None:
    spool = Spool(path)
    spool._run("UPDATE meta SET value = 9 WHERE name = 'format'")
    spool.close()
    with pytest.raises(BadInput, match="format 9"):
        Spool(path)


def test_a_full_spool_merges_the_oldest_and_counts_every_frame(path: Path, make_report: Make) -> None:
    cap = 10_000
    spool = Spool(path, cap_bytes=cap)
    total = 0
    for k in range(603):
        total += k % 50
        spool.add(make_report(k % 50, seed=k))
        spool.shrink()
    rows = spool.pending(limit=-1)
    reports = [read_report(row.payload) for row in rows]
    assert sum(len(row.payload) for row in rows) <= cap
    assert sum(report.frames for report in reports) == total
    assert reports[0].flags & MERGED and reports[0].interval_ms > 600_000
    assert not reports[-1].flags & MERGED
    covered = [report.merged or (report.sequence, report.sequence) for report in reports]
    assert covered[0][0] == 1 and covered[-1][1] == 603
    assert all(one[1] + 1 == two[0] for one, two in itertools.pairwise(covered))
    assert [row.id for row in rows] == sorted(row.id for row in rows)
    spool.close()


def test_sent_reports_are_merged_last(path: Path, make_report: Make) -> None:
    spool = Spool(path, cap_bytes=1)
    stored = [spool.add(make_report(5, seed=k)) for k in range(30)]
    spool.hand(stored[0].id, stored[9].id)
    spool._cap_bytes = 4000
    spool.shrink()
    assert [row.sequence for row in spool.pending(limit=10)] == list(range(1, 11))
    assert len(spool.pending()) < 30 and frames_in(spool) == 150
    spool._cap_bytes = 1
    spool.shrink()
    assert len(spool.pending()) == 1 and frames_in(spool) == 150
    spool.close()


def test_two_models_are_never_merged(path: Path, make_report: Make) -> None:
    spool = Spool(path, cap_bytes=1)
    for k in range(6):
        spool.add(make_report(5, model=b"modelone" if k < 3 else b"modeltwo"))
    spool.shrink()
    assert [read_report(row.payload).merged for row in spool.pending()] == [(1, 3), (4, 6)]
    spool.close()


def test_what_cannot_be_merged_is_not_tried_again_at_every_report(
    path: Path, make_report: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    walks: list[bool] = []

    def walk(_spool: Spool, unsent_only: bool) -> Iterator[Any]:
        walks.append(unsent_only)
        return iter(())

    monkeypatch.setattr(Spool, "_walk", walk)
    spool = Spool(path, cap_bytes=10_000)
    for _ in range(100):
        spool.add(make_report())
        spool.shrink()
    assert spool._bytes > 12_000 and 2 <= len(walks) <= 2 * 20
    spool.close()


def test_a_merge_that_cannot_be_written_changes_nothing(
    path: Path, make_report: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = Spool(path, cap_bytes=1)
    for k in range(30):
        spool.add(make_report(5, seed=k))
    before, size, replace = spool.pending(), spool._bytes, spool._replace_run

    def fail_after_one(run: list[Any]) -> int:
        monkeypatch.setattr(spool, "_replace_run", lambda _run: spool._run("SELECT no_such_column"))
        return replace(run)

    monkeypatch.setattr(spool, "_replace_run", fail_after_one)
    with pytest.raises(Damaged):
        spool.shrink()
    assert (spool.pending(), spool._bytes) == (before, size)
    spool.close()
