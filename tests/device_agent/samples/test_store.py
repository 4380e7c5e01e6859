"""Sealed files on disk: whole, capped, not for ever, and never in the way of the agent."""

from __future__ import annotations

import errno
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from device_agent.samples import store as store_module
from device_agent.samples.ages import SET_MS
from device_agent.samples.store import Caps, Clocks, Store
from device_agent.samples.taken import Taken

DAY_NS = 86_400 * 10**9
NOW_MS = SET_MS + 30_000_000_000


class Wall:
    """Milliseconds since 1970 that a test sets."""

    def __init__(self, now_ms: int = NOW_MS) -> None:
        self.now_ms = now_ms

    def __call__(self) -> int:
        return self.now_ms


@pytest.fixture
def events() -> list[tuple[str, str]]:
    return []


@pytest.fixture
def wall() -> Wall:
    return Wall()


@pytest.fixture
def opened(tmp_path, clock, wall, events):
    def make(most_bytes: int = 1 << 20, live_days: float = 7, most_files: int = 100, spare_bytes: int = 0) -> Store:
        caps = Caps(most_bytes, int(live_days * DAY_NS), most_files, spare_bytes)
        return Store(tmp_path / "samples", caps, Clocks(clock, wall), lambda *one: events.append(one))

    return make


def files(folder: Path) -> set[str]:
    return {path.name for path in (folder / "samples").iterdir()}


def name(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_what_is_kept_is_read_again_after_a_restart_oldest_first(opened, tmp_path):
    first = opened()
    for number in range(3):
        assert first.add(b"sealed %d" % number)
        os.utime(tmp_path / "samples" / f"{name(b'sealed %d' % number)}.sample", (NOW_MS // 1000 - 10 + number,) * 2)
    again = opened()
    assert [again.read(each) for each in again.names()] == [b"sealed 0", b"sealed 1", b"sealed 2"]
    again.remove(name(b"sealed 1"))
    assert len(again) == 2 and len(files(tmp_path)) == 2


def test_a_half_written_file_is_swept_and_foreign_files_are_left_alone(opened, tmp_path):
    folder = tmp_path / "samples"
    folder.mkdir()
    (folder / f".{'a' * 64}.sample.0123abcd.part").write_bytes(b"half")
    (folder / "notes.txt").write_text("mine")
    (folder / f"{'b' * 64}.sample").symlink_to("/etc/passwd")
    assert len(opened()) == 0
    assert files(tmp_path) == {"notes.txt", f"{'b' * 64}.sample"}


def test_a_kill_in_the_middle_of_writing_leaves_nothing_that_counts(tmp_path, opened):
    script = """
import os, signal, sys
from pathlib import Path
from device_agent.contract import files
from device_agent.samples.store import Caps, Clocks, Store
store = Store(Path(sys.argv[1]), Caps(1 << 20, 10**18, 100, 0), Clocks(lambda: 0, lambda: 0), print)
store.add(b"whole")
files._sync = lambda path: os.kill(os.getpid(), signal.SIGKILL)
store.add(b"half")
"""
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path / "samples")], timeout=60)
    assert done.returncode == -9
    assert len(files(tmp_path)) == 2
    assert opened().names() == [name(b"whole")]
    assert files(tmp_path) == {f"{name(b'whole')}.sample"}


def test_when_it_is_full_the_oldest_go_and_that_is_said_once_and_then_counted(opened, events, tmp_path):
    store = opened(most_bytes=100)
    for number in range(12):
        assert store.add(b"%010d" % number * 2)
    assert [store.read(each)[:10] for each in store.names()] == [b"%010d" % n for n in range(7, 12)]
    assert len(files(tmp_path)) == 5
    assert [kind for kind, _ in events] == ["samples_full"]
    store.expire()
    assert events[-1] == ("samples_full", "7 samples went, unsent, to make room")
    assert not store.add(b"x" * 101) and events[-1][0] == "samples_unwritable"


def test_the_number_of_files_is_capped(opened):
    store = opened(most_files=3)
    for number in range(9):
        store.add(b"%d" % number)
    assert len(store) == 3


def test_samples_expire_by_the_clock_that_nobody_sets(opened, clock, wall, events, tmp_path):
    wall.now_ms = 300_000  # 1970: a board without a battery
    store = opened()
    store.add(b"one")
    wall.now_ms = NOW_MS
    clock.pass_s(6 * 86_400)
    store.add(b"two")
    store.expire()
    assert len(store) == 2 and events == []
    clock.pass_s(86_401)
    store.expire()
    assert store.names() == [name(b"two")]
    assert events == [("samples_expired", "1 samples were over their time to live, unsent")]


@pytest.mark.parametrize(
    ("written_s", "kept"),
    [(NOW_MS // 1000 - 8 * 86_400, False), (NOW_MS // 1000 - 6 * 86_400, True), (300, True), (2**33, True)],
    ids=["old", "young", "1970", "future"],
)
def test_after_a_restart_the_age_is_that_of_the_file_where_it_can_be_true(opened, wall, tmp_path, written_s, kept):
    opened().add(b"one")
    path = tmp_path / "samples" / f"{name(b'one')}.sample"
    os.utime(path, (written_s,) * 2)
    assert len(opened()) == kept
    if kept:
        wall.now_ms += 8 * 86_400_000
        assert len(opened()) == 0, "no time that cannot be true keeps it for ever"


def test_with_a_clock_that_is_not_set_nothing_is_judged_by_it(opened, wall, tmp_path):
    opened().add(b"one")
    path = tmp_path / "samples" / f"{name(b'one')}.sample"
    before = path.stat().st_mtime_ns
    wall.now_ms = 300_000
    assert len(opened()) == 1 and path.stat().st_mtime_ns == before


def test_a_full_disk_is_one_event_and_its_end_another(opened, events, monkeypatch, tmp_path):
    store = opened()
    real = Path.write_bytes

    def full(path: Path, content: bytes) -> int:
        real(path, content[:3])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(Path, "write_bytes", full)
    assert not any(store.add(b"%d" % number) for number in range(5))
    assert [kind for kind, _ in events] == ["samples_unwritable"]
    assert "no space left" in events[0][1] and files(tmp_path) == set()
    monkeypatch.setattr(Path, "write_bytes", real)
    assert store.add(b"again")
    assert events[1:] == [("samples_writable", "samples are kept again; 5 were lost")]


def test_what_the_reports_need_of_the_disk_is_left_to_them(opened, events, monkeypatch):
    usage = store_module.shutil.disk_usage("/")
    monkeypatch.setattr(store_module.shutil, "disk_usage", lambda _: usage._replace(free=(32 << 20) + 3))
    store = opened(spare_bytes=32 << 20)
    assert store.add(b"123") and not store.add(b"1234")
    assert events[0][0] == "samples_unwritable" and "under 32 MiB are free" in events[0][1]


def test_a_folder_that_cannot_be_made_stops_nothing(tmp_path, clock, wall, events):
    (tmp_path / "samples").write_text("in the way")
    store = Store(tmp_path / "samples", Caps(100, DAY_NS), Clocks(clock, wall), lambda *one: events.append(one))
    assert not store.add(b"one") and len(store) == 0
    assert [kind for kind, _ in events] == ["samples_unwritable"]


def test_a_file_that_was_changed_on_disk_is_not_sent(opened, tmp_path, events):
    store = opened()
    store.add(b"one")
    (tmp_path / "samples" / f"{name(b'one')}.sample").write_bytes(b"two")
    assert store.read(name(b"one")) is None
    assert events[0][0] == "samples_damaged" and files(tmp_path) == set()


def test_a_file_that_somebody_took_away_is_forgotten(opened, tmp_path, events):
    store = opened()
    store.add(b"one")
    (tmp_path / "samples" / f"{name(b'one')}.sample").unlink()
    assert store.read(name(b"one")) is None and len(store) == 0 and events == []


def test_quotas_remember_across_restarts_what_was_taken(tmp_path):
    path = tmp_path / "taken.json"
    first = Taken(path, 3)
    for number in range(5):
        first.add(NOW_MS + number * 1000, number)
    again = Taken(path, 3)
    assert again.ages(NOW_MS + 10_000) == [(8 * 10**9, 2), (7 * 10**9, 3), (6 * 10**9, 4)]
    assert again.ages(300_000) == [(0, 2), (0, 3), (0, 4)]


@pytest.mark.parametrize("content", [b"", b"{}", b"[[1]]", b"[[-1, 2]]", b"\xff", b"[" * 100_000])
def test_a_damaged_memory_of_quotas_is_as_none(tmp_path, content):
    path = tmp_path / "taken.json"
    path.write_bytes(content)
    assert Taken(path, 3).ages(NOW_MS) == []
