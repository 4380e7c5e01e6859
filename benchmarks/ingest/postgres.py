"""A PostgreSQL of one's own in a folder, that can be crashed and started again; what is committed is on disk."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from pathlib import Path

from fleet.chaos.programs import HOST, free_port


def find_programs() -> Path | None:
    """Folder with initdb and pg_ctl: from PATH, or the newest that Debian installed."""
    found = shutil.which("pg_ctl")
    if found:
        return Path(found).parent
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"), key=lambda path: float(path.parts[-3]))
    return versions[-1].parent if versions else None


class Postgres:
    """A cluster in `folder`, which must not exist; as root it runs under the account "postgres".

    Raises:
        FileNotFoundError: PostgreSQL is not installed.
    """

    def __init__(self, folder: Path) -> None:
        programs = find_programs()
        if programs is None:
            raise FileNotFoundError("postgresql is not here; install it, or give --store sqlite")
        self._programs, self.folder, self.port = programs, folder, free_port()
        self._account = None
        folder.mkdir(parents=True)
        if os.geteuid() == 0:
            self._account = pwd.getpwnam("postgres").pw_name
            shutil.chown(folder, self._account)
        self._run("initdb", "-D", str(folder / "data"), "-U", "lineside", "-A", "trust", "-E", "UTF8")

    @property
    def url(self) -> str:
        """Of its database, as the command lines take it."""
        return f"postgresql://lineside@{HOST}:{self.port}/postgres"

    def start(self) -> None:
        """Taking connections when this returns, after a crash with everything that was committed."""
        options = f"-p {self.port} -k {self.folder} -c listen_addresses={HOST}"
        self._control("-l", str(self.folder / "log"), "-o", options, "-w", "start")

    def crash(self) -> None:
        """Every process ends at once, without a checkpoint; what was not committed is gone."""
        self._control("-m", "immediate", "-w", "stop")

    def stop(self) -> None:
        """Ended in order, connections are cut."""
        self._control("-m", "fast", "-w", "stop")

    def _control(self, *arguments: str) -> None:
        self._run("pg_ctl", "-D", str(self.folder / "data"), *arguments)

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self._programs / program), *arguments]
        done = subprocess.run(
            command, user=self._account, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, timeout=120, check=False,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"{program}: {done.stdout}")
