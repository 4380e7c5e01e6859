"""A damaged spool is kept, what can be read goes on, and no number is used twice."""

from __future__ import annotations

import contextlib
import errno
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from device_agent.contract.codec import encode
from device_agent.contract.errors import NotWritable
from device_agent.contract.report import GAP, DeviceReport
from device_agent.salvage import NAME, open_spool
from device_agent.spool import Spool

Make = Callable[..., DeviceReport]
Heard = list[tuple[str, str]]


@pytest.fixture
def heard() -> Heard:
    return []


def fill(folder: Path, make_report: Make, heard: Heard, reports: int = 200) -> int:
    spool = open_spool(folder, lambda *one: heard.append(one))
    for k in range(reports):
        spool.add(make_report(40, seed=k), handed=True)
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


def test_the_first_report_after_a_crash_says_so_and_no_other(tmp_path: Path, make_report: Make, heard: Heard) -> None:
    open_spool(tmp_path, lambda *one: heard.append(one)).abandon()
    open_spool(tmp_path, lambda *one: heard.append(one)).close()
    spool = open_spool(tmp_path, lambda *one: heard.append(one))
    flags = [spool.add(make_report()).report.flags & GAP for _ in range(3)]
    spool.close()
    assert flags == [GAP, 0, 0], "a boot that ended in order without a report leaves the gap to the next one"
    spool = open_spool(tmp_path, lambda *one: heard.append(one))
    assert not spool.add(make_report()).report.flags & GAP
    spool.close()


def test_a_salvaged_spool_goes_on_with_a_gap(tmp_path: Path, make_report: Make, heard: Heard) -> None:
    fill(tmp_path, make_report, heard, reports=5)
    (tmp_path / NAME).write_bytes(b"not a database" * 1000)
    spool = open_spool(tmp_path, lambda *one: heard.append(one))
    assert spool.add(make_report()).report.flags & GAP
    spool.close()


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
    assert spool.acknowledge(epoch, 200) == (len(rows), 0)
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


def test_of_a_file_that_was_cut_off_the_beginning_is_read(tmp_path: Path, make_report: Make, heard: Heard) -> None:
    epoch = fill(tmp_path, make_report, heard)
    content = (tmp_path / NAME).read_bytes()
    (tmp_path / NAME).write_bytes(content[: len(content) * 3 // 4])
    spool = open_spool(tmp_path, lambda *one: heard.append(one))
    rows = spool.pending(limit=-1)
    spool.close()
    assert 100 < len(rows) < 200 and {row.epoch for row in rows} == {epoch}
    assert [kind for kind, _ in heard] == ["spool_salvaged"]


def test_twice_in_the_same_second(tmp_path: Path, heard: Heard) -> None:
    for content in (b"one" * 4000, b"two" * 4000):
        (tmp_path / NAME).write_bytes(content)
        open_spool(tmp_path, lambda *one: heard.append(one), wall=lambda: 1e9).close()
        (tmp_path / NAME).unlink()
    assert len(list(tmp_path.glob("spool.corrupt-*.db"))) == 2


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    middle = len(content) // 2 // 4096 * 4096
    content[middle : middle + 4096] = bytes(range(256)) * 16
    path.write_bytes(content)


def test_damage_that_only_use_shows_is_salvaged_once(tmp_path: Path, make_report: Make, heard: Heard) -> None:
    epoch = fill(tmp_path, make_report, heard)
    open_spool(tmp_path, lambda *one: heard.append(one)).condemn()
    spool = open_spool(tmp_path, lambda *one: heard.append(one))
    assert [row.sequence for row in spool.pending(limit=-1)] == list(range(1, 201)) and spool.epoch != epoch
    spool.close()
    open_spool(tmp_path, lambda *one: heard.append(one)).close()
    assert [kind for kind, _ in heard] == ["spool_salvaged", "gap"], "no report told of the gap before the second start"


class Killed(BaseException):
    """Stands for a SIGKILL."""


@pytest.mark.parametrize("step", range(6))
def test_a_kill_during_salvage_loses_nothing(
    tmp_path: Path, make_report: Make, heard: Heard, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    fill(tmp_path, make_report, heard)
    damage(tmp_path / NAME)
    steps = iter(range(100))

    def killing(what: Callable[..., Any]) -> Callable[..., Any]:
        def one(*args: Any) -> Any:
            if next(steps) == step:
                raise Killed
            return what(*args)

        return one

    with monkeypatch.context() as patch:
        for kind, name in ((Spool, "restore"), (Spool, "close"), (Path, "rename"), (Path, "replace")):
            patch.setattr(kind, name, killing(getattr(kind, name)))
        with contextlib.suppress(Killed):
            open_spool(tmp_path, lambda *one: heard.append(one)).close()
    spool = open_spool(tmp_path, lambda *one: heard.append(one))
    assert 100 < len(spool.pending(limit=-1)) < 200
    assert [kind for kind, _ in heard] == ["spool_salvaged"]
    assert len(list(tmp_path.glob("spool.corrupt-*.db"))) == 1
    spool.close()


def test_an_earlier_format_goes_on_in_a_new_spool(tmp_path: Path, make_report: Make, heard: Heard) -> None:
    old = sqlite3.connect(tmp_path / NAME)
    old.executescript(
        "CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;"
        "INSERT INTO meta VALUES ('format', 1), ('epoch', 7), ('next', 4), ('boot', 5), ('clean', 1), ('published', 0);"
        "CREATE TABLE report (id INTEGER PRIMARY KEY AUTOINCREMENT, epoch INTEGER NOT NULL, sequence INTEGER NOT NULL,"
        " payload BLOB NOT NULL, UNIQUE (epoch, sequence));"
    )
    for k in (1, 2, 3):
        payload = encode(make_report(k, epoch=7, sequence=k))
        old.execute("INSERT INTO report (epoch, sequence, payload) VALUES (7, ?, ?)", (k, payload))
    old.commit()
    old.close()
    spool = open_spool(tmp_path, lambda *one: heard.append(one))
    assert [(row.epoch, row.sequence, row.report.frames) for row in spool.pending()] == [(7, k, k) for k in (1, 2, 3)]
    assert "earlier format 1" in heard[0][1] and spool.epoch != 7
    assert spool.acknowledge(7, 3) == (3, 0)
    spool.close()


def test_without_room_the_damaged_spool_stays_for_later(
    tmp_path: Path, make_report: Make, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    fill(tmp_path, make_report, heard)
    damage(tmp_path / NAME)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copyfile", full)
        with pytest.raises(NotWritable, match="no room to salvage"):
            open_spool(tmp_path, lambda *one: heard.append(one))
    spool = open_spool(tmp_path, lambda *one: heard.append(one))
    assert 100 < len(spool.pending(limit=-1)) < 200
    spool.close()


def test_a_changed_report_is_not_salvaged(tmp_path: Path, make_report: Make, heard: Heard) -> None:
    fill(tmp_path, make_report, heard)
    damage(tmp_path / NAME)
    content = bytearray((tmp_path / NAME).read_bytes())
    content[content.index(b"modelone")] ^= 1
    (tmp_path / NAME).write_bytes(content)
    spool = open_spool(tmp_path, lambda *one: heard.append(one))
    assert {row.report.model for row in spool.pending(limit=-1)} == {b"modelone"}
    spool.close()


@pytest.mark.parametrize("damaged", [True, False])
def test_what_a_killed_salvage_left_is_cleared(
    tmp_path: Path, make_report: Make, heard: Heard, monkeypatch: pytest.MonkeyPatch, damaged: bool
) -> None:
    def kill(*_: object, **__: object) -> None:
        raise Killed

    fill(tmp_path, make_report, heard)
    sound = (tmp_path / NAME).read_bytes()
    damage(tmp_path / NAME)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", kill)
        patch.setattr("device_agent.salvage._sweep", lambda _folder: None)
        with pytest.raises(Killed):
            open_spool(tmp_path, lambda *one: heard.append(one))
    (tmp_path / ".spool.salvaged.db.0a1b2c3d.part").write_bytes(b"half")
    assert (tmp_path / "spool.reading" / "copy.db").exists()
    if not damaged:
        (tmp_path / NAME).write_bytes(sound)
    open_spool(tmp_path, lambda *one: heard.append(one)).close()
    kept = {path.name for path in tmp_path.iterdir() if not path.name.startswith("spool.corrupt-")}
    assert kept == {NAME}
