"""Why the run before this one ended: a marker in the state folder that only an orderly end removes.

What killed it is asked of systemd, whose unit leaves SERVICE_RESULT behind, and of the kernel, whose control group
counts what its memory limit killed. systemd makes a new group for every start, so its counter is of use elsewhere: in a
container, or under another supervisor.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path

import msgspec

from device_agent.contract.errors import NotWritable
from device_agent.contract.files import write_whole
from device_agent.contract.reading import read_plain

MARKER = "running.json"
RESULT = "last-end"
_RESULTS = {
    "oom-kill": "the memory limit: the kernel killed it",
    "watchdog": "the watchdog: it did not show that it works, and was killed",
    "core-dump": "a crash with a core dump",
    "timeout": "it did not start or stop in time, and was killed",
    "resources": "systemd could not get the resources for it",
}


class _Marker(msgspec.Struct, frozen=True):
    """A run that has begun: the machine's boot id, the process, and how often the group's memory limit had killed."""

    machine: str
    pid: int
    oom_kills: int | None = None


def why_last_ended(state: Path, root: Path = Path("/")) -> str | None:
    """Why the last run in this state folder did not end in order, for an event; None if it did, or there was none.

    From now on a run is under way, until `ended`. To be called once the spool is held, which shows that no other agent
    uses the folder. `root` is where proc and sys are. A folder that cannot be written to gives no marker and no error.
    """
    before, result = _read(state / MARKER), _result(state / RESULT)
    marker = _Marker(_text(root / "proc/sys/kernel/random/boot_id"), os.getpid(), oom_kills(root))
    with suppress(OSError):
        (state / RESULT).unlink(missing_ok=True)
    with suppress(NotWritable):
        write_whole(state / MARKER, msgspec.json.encode(marker))
    return None if before is None else f"the last run ended by {_cause(before, marker, result)}"


def ended(state: Path) -> None:
    """This run ends in order."""
    with suppress(OSError):
        (state / MARKER).unlink(missing_ok=True)


def _cause(before: _Marker, now: _Marker, result: list[str]) -> str:
    if before.machine != now.machine:
        return "a restart of the machine, or a loss of power"
    limit = before.oom_kills is not None and now.oom_kills is not None and now.oom_kills > before.oom_kills
    if limit and result[:1] != ["oom-kill"]:
        return _RESULTS["oom-kill"]
    if result and result[0] in _RESULTS:
        return _RESULTS[result[0]]
    if len(result) == 3:
        return f"{result[0]}: {result[1]} {result[2]}"
    return "a crash, or somebody killed it"


def oom_kills(root: Path = Path("/")) -> int | None:
    """How many processes the memory limit of this process's control group has killed; None if it cannot be known.

    Version 2 says so in memory.events, version 1 in memory.oom_control.
    """
    for line in _text(root / "proc/self/cgroup").splitlines():
        number, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        if number == "0":
            names = ["sys/fs/cgroup", "sys/fs/cgroup/unified"], "memory.events"
        elif "memory" in controllers.split(","):
            names = ["sys/fs/cgroup/memory"], "memory.oom_control"
        else:
            continue
        for folder in names[0]:
            for place in (group.lstrip("/"), ""):  # a container sees its own group as the root
                found = re.search(r"^oom_kill (\d+)$", _text(root / folder / place / names[1]), re.MULTILINE)
                if found:
                    return int(found[1])
    return None


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError):
        return ""


def _read(path: Path) -> _Marker | None:
    try:
        content = read_plain(path, 4096)
    except OSError:
        return None
    try:
        return msgspec.json.decode(content, type=_Marker)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _Marker("", 0)


def _result(path: Path) -> list[str]:
    """SERVICE_RESULT, EXIT_CODE and EXIT_STATUS, as words that can stand in an event."""
    try:
        words = read_plain(path, 200).decode("ascii", "replace").split()
    except OSError:
        return []
    return [word for word in words if re.fullmatch(r"[A-Za-z0-9-]{1,20}", word)][:3]
