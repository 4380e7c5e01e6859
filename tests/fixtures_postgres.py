"""`postgres_url`: a PostgreSQL cluster of the test session's own, on a free port, without durability."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

SETTINGS = "-c fsync=off -c synchronous_commit=off -c full_page_writes=off -c listen_addresses=127.0.0.1"


def find_postgres() -> Path | None:
    """Folder with initdb and pg_ctl: from PATH, or the newest that Debian installed."""
    found = shutil.which("pg_ctl")
    if found:
        return Path(found).parent
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"), key=lambda path: float(path.parts[-3]))
    return versions[-1].parent if versions else None


def _account() -> str | None:
    """The account to run as: PostgreSQL refuses root."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam("postgres").pw_name
    except KeyError:
        pytest.skip("system: postgresql has no account of its own")


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """URL of an empty database, for SQLAlchemy with psycopg 3."""
    programs = find_postgres()
    if programs is None:
        pytest.skip("system: postgresql not found")
    account = _account()
    folder = Path(tempfile.mkdtemp(prefix="lineside-postgres-"))
    if account is not None:
        shutil.chown(folder, account)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    def run(*command: str) -> None:
        done = subprocess.run(command, user=account, cwd=folder, capture_output=True, text=True, timeout=60)
        if done.returncode:
            pytest.fail(f"{command[0]}: {done.stdout}{done.stderr}")

    data = str(folder / "data")
    try:
        run(str(programs / "initdb"), "-D", data, "-U", "lineside", "-A", "trust", "-E", "UTF8", "--no-sync")
        options = f"-p {port} -k {folder} {SETTINGS}"
        run(str(programs / "pg_ctl"), "-D", data, "-l", str(folder / "log"), "-o", options, "-w", "start")
        try:
            yield f"postgresql+psycopg://lineside@127.0.0.1:{port}/postgres"
        finally:
            run(str(programs / "pg_ctl"), "-D", data, "-m", "immediate", "-w", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
