"""What only root on Linux can do to a device: a network of its own that can be taken down, a disk of its own that can
be filled, a limit on its memory. Each says why it is not to be had."""

from __future__ import annotations

import os
import shutil
import subprocess
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
    """A control group whose memory can be limited; version 1 or 2.

    Raises:
        Unavailable: there is none that can be written.
    """

    def __init__(self, number: int) -> None:
        two = (MEMORY.parent / "cgroup.controllers").exists()
        self._folder = (MEMORY.parent if two else MEMORY) / f"lineside-{os.getpid()}-{number}"
        self._limit = self._folder / ("memory.max" if two else "memory.limit_in_bytes")
        self._count = self._folder / ("memory.events" if two else "memory.oom_control")
        try:
            self._folder.mkdir()
            self._limit.read_text()
        except OSError as error:
            self.close()
            raise Unavailable(f"{self._folder}: no memory control group: {(error.strerror or '').lower()}") from error

    def limit(self, pid: int, mib: int) -> None:
        """Put a process into the group, with at most so much memory together with what it starts."""
        try:
            (self._folder / "cgroup.procs").write_text(str(pid))
            self._limit.write_text(str(mib << 20))
        except OSError as error:
            raise Unavailable(f"{self._limit}: {(error.strerror or str(error)).lower()}") from error

    @property
    def kills(self) -> int:
        """How often the kernel killed in this group for want of memory."""
        for line in self._count.read_text().splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
        return 0

    def close(self) -> None:
        """Remove the group, which must be empty."""
        with suppress(OSError):
            self._folder.rmdir()
