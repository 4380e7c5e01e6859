"""A damaged spool is kept, what can be read goes on, and no number is used twice."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from device_agent.contract.report import DeviceReport
from device_agent.salvage import NAME, open_spool

Make = Callable[..., DeviceReport]
Heard = list[tuple[str, str]]


@pytest.fixture
def heard() -> Heard:
    return []


def fill(folder: Path, make_report: Make, heard: Heard, reports: int = 200) -> int:
    spool = open_spool(folder, lambda *one: heard.append(one))
    for k in range(reports):
        spool.add(make_report(40, seed=k))
    spool.close()
    return spool.epoch


def test_a_sound_spool_says_nothing(tmp_path: Path, make_report: Make, heard: Heard) -> None:
    fill(tmp_path, make_report, heard)
    open_spool(tmp_path, lambda *one: heard.append(one)).close()
    assert heard == []


def test_a_crash_is_a_gap(tmp_path: Path, heard: Heard) -> None:
    open_spool(tmp_path, lambda *one: heard.append(one)).abandon()
    open_spool(tmp_path, lambda *one: heard.append(one)).close()
    assert [kind for kind, _ in heard] == ["gap"]


def test_what_can_be_read_goes_on_under_its_old_keys(tmp_path: Path, make_report: Make, heard: Heard) -> None:
    epoch = fill(tmp_path, make_report, heard)
    content = bytearray((tmp_path / NAME).read_bytes())
    middle = len(content) // 2 // 4096 * 4096
    content[middle : middle + 4096] = bytes(range(256)) * 16
    (tmp_path / NAME).write_bytes(content)
    spool = open_spool(tmp_path, lambda *one: heard.append(one), wall=lambda: 1e9)
    rows = spool.pending(limit=-1)
    assert 100 < len(rows) < 200
    assert {row.epoch for row in rows} == {epoch}
    assert [row.sequence for row in rows] == sorted({row.sequence for row in rows})
    assert spool.epoch != epoch and spool.add(make_report()).sequence == 1
    assert [kind for kind, _ in heard] == ["spool_salvaged"]
    kept = list(tmp_path.glob("spool.corrupt-20010909T014640*.db"))
    assert [one.read_bytes() for one in kept] == [bytes(content)]
    assert spool.acknowledge(epoch, 200) == len(rows)
    spool.close()


@pytest.mark.parametrize("content", [b"this is no database at all" * 400, b"SQLite format 3\0" + b"\xff" * 9000])
def test_nothing_can_be_read(tmp_path: Path, make_report: Make, heard: Heard, content: bytes) -> None:
    (tmp_path / NAME).write_bytes(content)
    spool = open_spool(tmp_path, lambda *one: heard.append(one))
    assert spool.pending() == []
    assert spool.add(make_report()).sequence == 1
    spool.close()
    assert [path.read_bytes() for path in tmp_path.glob("spool.corrupt-*.db")] == [content]
    assert [kind for kind, _ in heard] == ["spool_salvaged"]


def test_twice_in_the_same_second(tmp_path: Path, heard: Heard) -> None:
    for content in (b"one" * 4000, b"two" * 4000):
        (tmp_path / NAME).write_bytes(content)
        open_spool(tmp_path, lambda *one: heard.append(one), wall=lambda: 1e9).close()
        (tmp_path / NAME).unlink()
    assert len(list(tmp_path.glob("spool.corrupt-*.db"))) == 2
