"""What only root on Linux can do to a device: a network of its own that can be taken down, a disk of its own that can
be filled, a limit on its memory. Each says why it is not to be had."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from device_agent.contract.errors import LinesideError

MEMORY = Path("/sys/fs/cgroup/memory")
FILLER = "filler"


class Unavailable(LinesideError):
    """This machine cannot do it; the sentence says why."""


def _call(*command: str) -> None:
    if shutil.which(command[0]) is None:
        raise Unavailable(f"there is no {command[0]} here")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Unavailable(f"{' '.join(command[:4])}: {(done.stderr.strip() or 'failed').splitlines()[0]}")


class Wire:
    """A network namespace behind a pair of virtual Ethernet devices; programs in it reach this machine at `host`.

    Raises:
        Unavailable: not root, no iproute2, or a kernel without network namespaces.
    """

    def __init__(self, number: int) -> None:
        self.space = f"lineside-{os.getpid()}-{number}"
        self._here, there = f"lsh{os.getpid() % 100_000}{number}", f"lsd{os.getpid() % 100_000}{number}"
        block = f"10.213.{os.getpid() % 250}.{4 * number}"
        base, last = block.rsplit(".", 1)
        self.host = f"{base}.{int(last) + 1}"
        try:
            _call("ip", "netns", "add", self.space)
            _call("ip", "link", "add", self._here, "type", "veth", "peer", "name", there)
            _call("ip", "link", "set", there, "netns", self.space)
            _call("ip", "addr", "add", f"{self.host}/30", "dev", self._here)
            _call("ip", "link", "set", self._here, "up")
            inside = ("ip", "-n", self.space)
            _call(*inside, "addr", "add", f"{base}.{int(last) + 2}/30", "dev", there)
            _call(*inside, "link", "set", there, "up")
            _call(*inside, "link", "set", "lo", "up")
        except Unavailable:
            self.close()
            raise

    @property
    def prefix(self) -> tuple[str, ...]:
        """What goes before a command so that it runs in the namespace."""
        return ("ip", "netns", "exec", self.space)

    def down(self) -> None:
        """Pull the plug."""
        _call("ip", "link", "set", self._here, "down")

    def up(self) -> None:
        """Put it back."""
        _call("ip", "link", "set", self._here, "up")

    def slow(self, bits_per_s: int) -> None:
        """Let no more than this through, by a token bucket."""
        rate = f"{bits_per_s}bit"
        _call("tc", "qdisc", "replace", "dev", self._here, "root", "tbf", "rate", rate, "burst", "2kb", "latency", "2s")

    def fast(self) -> None:
        """Let everything through again."""
        with suppress(Unavailable):
            _call("tc", "qdisc", "del", "dev", self._here, "root")

    def close(self) -> None:
        """Take it all away."""
        for command in (("ip", "netns", "del", self.space), ("ip", "link", "del", self._here)):
            with suppress(Unavailable):
                _call(*command)


class Disk:
    """A small file system of its own, mounted on `folder`.

    Raises:
        Unavailable: it cannot be mounted.
    """

    def __init__(self, folder: Path, mib: int = 8) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        _call("mount", "-t", "tmpfs", "-o", f"size={mib}m,mode=755", "lineside-rehearsal", str(folder))

    def fill(self) -> None:
        """Leave no byte free."""
        with suppress(OSError), (self._folder / FILLER).open("ab", buffering=0) as filler:
            for size in (1 << 16, 1 << 12, 1):
                with suppress(OSError):
                    while filler.write(b"\0" * size):
                        pass

    def empty(self) -> None:
        """Give the room back."""
        (self._folder / FILLER).unlink(missing_ok=True)

    def close(self) -> None:
        """Unmount it."""
        with suppress(Unavailable):
            _call("umount", "-l", str(self._folder))


class Memory:
    """A control group of a device's own, version 1 or 2, in which memory can run out.

    Raises:
        Unavailable: there is none that can be written.
    """

    def __init__(self, number: int) -> None:
        two = (MEMORY.parent / "cgroup.controllers").exists()
        self._folder = (MEMORY.parent if two else MEMORY) / f"lineside-{os.getpid()}-{number}"
        names = ("memory.max", "memory.current", "memory.events")
        old = ("memory.limit_in_bytes", "memory.usage_in_bytes", "memory.oom_control")
        self._limit, self._used, self._count = (self._folder / name for name in (names if two else old))
        self._none = "max" if two else "-1"
        self._hog: subprocess.Popen[bytes] | None = None
        self.kills_seen = 0
        try:
            self._folder.mkdir()
            self._limit.read_text()
        except OSError as error:
            self.close()
            raise Unavailable(f"{self._folder}: no memory control group: {(error.strerror or '').lower()}") from error

    @property
    def prefix(self) -> tuple[str, ...]:
        """What goes before a command so that it runs in the group."""
        return ("/bin/sh", "-c", 'echo $$ > "$0" && exec "$@"', str(self._folder / "cgroup.procs"))

    def exhaust(self, victim: int) -> None:
        """Let a neighbour in the group take what is left; the kernel then kills the victim first.

        Raises:
            Unavailable: the limit cannot be set, or the victim has ended.
        """
        try:
            Path(f"/proc/{victim}/oom_score_adj").write_text("1000")
            self._limit.write_text(str(int(self._used.read_text()) + (1 << 20)))
        except OSError as error:
            raise Unavailable(f"{self._limit}: {(error.strerror or str(error)).lower()}") from error
        self._hog = subprocess.Popen([*self.prefix, sys.executable, "-c", _HOG])

    def relieve(self) -> None:
        """End the neighbour and lift the limit."""
        if self._hog is not None:
            self._hog.kill()
            self._hog.wait()
            self._hog = None
        with suppress(OSError):
            self._limit.write_text(self._none)

    def killed(self) -> bool:
        """Did the kernel kill in this group for want of memory since it was last asked?"""
        kills = 0
        with suppress(OSError):
            lines = self._count.read_text().splitlines()
            kills = sum(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))
        before, self.kills_seen = self.kills_seen, kills
        return kills > before

    def close(self) -> None:
        """Remove the group, as soon as what ran in it is gone."""
        self.relieve()
        for _ in range(50):
            try:
                self._folder.rmdir()
            except FileNotFoundError:
                return
            except OSError:
                time.sleep(0.1)
            else:
                return


_HOG = """
import time
open("/proc/self/oom_score_adj", "w").write("-1000")
room = bytearray(4 << 20)
time.sleep(60)
"""
