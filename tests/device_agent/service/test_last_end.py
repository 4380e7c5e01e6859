"""A run learns why the one before it ended, from what the kernel and systemd left behind."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from device_agent.service.last_end import MARKER, RESULT, ended, oom_kills, why_last_ended
from device_agent.spool import Spool

RUN = """
import sys
from pathlib import Path
from device_agent.recorder import Recorder, Surroundings
from device_agent.service.last_end import why_last_ended
from device_agent.spool import Spool
state = Path(sys.argv[1])
spool = Spool(state / "spool.db")
print(why_last_ended(state), flush=True)
recorder, held = Recorder(b"modelone", 3, 0), []
while True:
    print(spool.add(recorder.close(1, Surroundings(1))).sequence, flush=True)
    if sys.argv[2] == "grow":
        held.append(bytearray(b"x") * (8 << 20))
"""


def write(root: Path, path: str, text: str) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text)


@pytest.fixture
def root(tmp_path):
    """A machine with one control group."""
    write(tmp_path, "proc/sys/kernel/random/boot_id", "b00t\n")
    write(tmp_path, "proc/self/cgroup", "0::/system.slice/lineside-agent.service\n")
    write(tmp_path, "sys/fs/cgroup/system.slice/lineside-agent.service/memory.events", "low 0\noom 0\noom_kill 0\n")
    return tmp_path


@pytest.fixture
def state(tmp_path):
    return tmp_path / "state"


def test_a_first_start_and_one_after_an_orderly_end_have_nothing_to_say(root, state):
    for _ in range(2):
        assert why_last_ended(state, root) is None
        ended(state)
    assert not (state / MARKER).exists()


@pytest.mark.parametrize(
    ("happened", "words"),
    [
        ({}, "a crash, or somebody killed it"),
        ({"proc/sys/kernel/random/boot_id": "an0ther"}, "a restart of the machine, or a loss of power"),
        (
            {"sys/fs/cgroup/system.slice/lineside-agent.service/memory.events": "low 0\noom 3\noom_kill 1\n"},
            "the memory limit: the kernel killed it",
        ),
        ({f"state/{RESULT}": "oom-kill killed KILL\n"}, "the memory limit: the kernel killed it"),
        ({f"state/{RESULT}": "watchdog killed ABRT\n"}, "the watchdog: "),
        ({f"state/{RESULT}": "signal killed SEGV\n"}, "signal: killed SEGV"),
        ({f"state/{RESULT}": "exit-code exited 4\n"}, "exit-code: exited 4"),
        ({f"state/{RESULT}": "$(reboot) <b> \x1b[31m\n"}, "a crash, or somebody killed it"),
        ({f"state/{RESULT}": "x" * 10_000}, "a crash, or somebody killed it"),
        ({f"state/{MARKER}": "{}"}, "a restart of the machine"),
        ({f"state/{MARKER}": "\udcff"}, "a restart of the machine"),
        ({f"state/{MARKER}": '{"machine": "b00t", "pid": "x"}'}, "a restart of the machine"),
    ],
)
def test_what_was_left_behind_is_said_in_words(root, state, happened, words):
    assert why_last_ended(state, root) is None
    for path, text in happened.items():
        (root / path).write_bytes(text.encode(errors="surrogateescape"))
    said = why_last_ended(state, root)
    assert said.startswith(f"the last run ended by {words}")
    assert not (state / RESULT).exists() and why_last_ended(state, root).endswith("a crash, or somebody killed it")


def test_a_service_that_ended_in_order_leaves_a_result_that_is_no_reason(root, state):
    why_last_ended(state, root)
    ended(state)
    write(state, RESULT, "success exited 0\n")
    assert why_last_ended(state, root) is None and not (state / RESULT).exists()


@pytest.mark.parametrize(
    ("groups", "file", "text", "kills"),
    [
        ("0::/a", "sys/fs/cgroup/a/memory.events", "oom_kill 7\n", 7),
        ("0::/a", "sys/fs/cgroup/memory.events", "oom 1\noom_kill 2\noom_group_kill 9\n", 2),
        ("4:cpu:/x\n7:cpuset,memory:/docker/1\n", "sys/fs/cgroup/memory/docker/1/memory.oom_control", "oom_kill 3", 3),
        ("4:memory:/docker/1\n0::/\n", "sys/fs/cgroup/memory/memory.oom_control", "under_oom 0\noom_kill 5\n", 5),
        ("0::/a", "sys/fs/cgroup/a/memory.events", "oom_kill many\n", None),
        ("0::/a", "elsewhere", "", None),
        ("nonsense", "elsewhere", "", None),
    ],
)
def test_both_versions_of_control_groups_are_read(tmp_path, groups, file, text, kills):
    write(tmp_path, "proc/self/cgroup", groups)
    write(tmp_path, file, text)
    assert oom_kills(tmp_path) == kills


def test_a_folder_that_cannot_be_written_stops_nothing(root, tmp_path):
    (tmp_path / "file").write_text("")
    assert why_last_ended(tmp_path / "file" / "state", root) is None
    ended(tmp_path / "file" / "state")


def sequences(output: str) -> list[int]:
    """What the run said was stored; a line that the kill cut counts as not said."""
    return [int(line) for line in output.splitlines(keepends=True)[1:] if line.endswith("\n")]


def test_after_a_real_kill_the_next_run_says_so_and_has_every_report(state, eventually):
    stored = []
    for expected in ("None", "the last run ended by a crash, or somebody killed it"):
        process = subprocess.Popen(
            [sys.executable, "-c", RUN, str(state), "stay"], stdout=subprocess.PIPE, text=True, cwd=state.parents[0],
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
        )  # fmt: skip
        lines = [process.stdout.readline() for _ in range(20)]
        process.send_signal(signal.SIGKILL)
        rest = process.stdout.read()
        assert process.wait(10) == -signal.SIGKILL
        assert lines[0].strip() == expected
        stored += sequences("".join(lines) + rest)
    spool = Spool(state / "spool.db")
    found = [row.sequence for row in spool.pending(limit=-1)]
    spool.close()
    assert stored and spool.crashed and len(found) - len(stored) in (0, 1, 2), "one at a kill may not have been said"


@pytest.fixture
def memory_group():
    """A control group that may have 160 MiB; its path of cgroup.procs."""
    name = f"lineside-test-{secrets.token_hex(4)}"
    for folder, limit, extra in (
        (Path("/sys/fs/cgroup"), "memory.max", "memory.swap.max"),
        (Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes", "memory.swappiness"),
    ):
        group = folder / name
        try:
            group.mkdir()
        except OSError:
            continue
        try:
            if (group / limit).exists():
                (group / limit).write_text(str(160 << 20))
                if (group / extra).exists():
                    (group / extra).write_text("0")
                yield group / "cgroup.procs"
                return
        finally:
            group.rmdir()
    pytest.skip("system: no control group with a memory limit can be made")


def test_after_a_real_memory_limit_the_next_run_names_it_and_has_every_report(state, memory_group):
    state.mkdir()
    command = ["/bin/sh", "-c", 'echo $$ > "$0" && exec "$@"', str(memory_group), sys.executable, "-c", RUN, str(state)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    first = subprocess.run(
        [*command, "grow"], stdout=subprocess.PIPE, text=True, timeout=120, env=environment, check=False
    )
    assert first.returncode == -signal.SIGKILL, "the kernel killed it"
    stored = sequences(first.stdout)
    process = subprocess.Popen([*command, "stay"], stdout=subprocess.PIPE, text=True, env=environment)
    said, *_more = (process.stdout.readline().strip() for _ in range(4))
    process.kill()
    process.communicate(timeout=30)
    assert said == "the last run ended by the memory limit: the kernel killed it"
    spool = Spool(state / "spool.db")
    found = {(row.epoch, row.sequence) for row in spool.pending(limit=-1)}
    spool.close()
    epochs = {epoch for epoch, _ in found}
    assert len(stored) > 3 and len(epochs) == 2, "a new epoch after the kill"
    assert any({(epoch, k) for k in stored} <= found for epoch in epochs)
    marker = json.loads((state / MARKER).read_text())
    assert marker["oom_kills"] >= 1
