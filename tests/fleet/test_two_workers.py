"""Two real workers, a real broker, a real PostgreSQL: one is killed, another joins, and every report is there once."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

import pytest
from sqlalchemy import func, select

from device_agent.contract.broker import parse_broker
from fleet.schema import LEASE, REPORT
from fleet.simulation.carriers import carry
from fleet.simulation.plant import SimulatedFleet
from fleet.store import open_store
from fleet.worlds import world_named
from tests.fixtures_broker import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.broker, pytest.mark.postgres]
DEVICES, SECONDS = 100, 45


class Worker:
    """`lineside-fleet serve` as a process."""

    def __init__(self, mosquitto, url: str, log) -> None:
        command = [sys.executable, "-m", "fleet.cli", "serve", "--broker", mosquitto.url, "--store", url, "--port", "0"]
        self.log = log.open("w")
        self.process = subprocess.Popen([*command, "--interval", "1"], stdout=self.log, stderr=subprocess.STDOUT)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self.log.close()

    def end(self) -> int:
        self.process.terminate()
        code = self.process.wait(30)
        self.log.close()
        return code


def holders(engine) -> dict[str, int]:
    with engine.connect() as tx:
        return dict(tx.execute(select(LEASE.c.worker, func.count()).group_by(LEASE.c.worker)).all())


def test_a_worker_is_killed_and_nothing_is_lost(mosquitto, postgres_url, tmp_path):
    url = postgres_url.rpartition("/")[0] + "/two_workers"
    from sqlalchemy import create_engine

    server = create_engine(postgres_url, isolation_level="AUTOCOMMIT")
    with server.connect() as tx:
        tx.exec_driver_sql("CREATE DATABASE two_workers")
    server.dispose()
    engine = open_store(url, create=True)
    workers = [Worker(mosquitto, url, tmp_path / f"{number}.log") for number in range(2)]
    wait_until(lambda: sorted(holders(engine).values()) == [32, 32], 60, message="they did not share the shards evenly")
    fleet = SimulatedFleet(world_named("plain", devices=20), DEVICES, 1, interval_ms=1000)
    found = []

    def speak() -> None:
        options = {"connections": 4, "start_ms": time.time_ns() // 1_000_000, "minutes": SECONDS, "patience_s": 60}
        found.append(carry(parse_broker(mosquitto.url), fleet, 1, clock_s=time.monotonic, pause=time.sleep, **options))

    speaking = threading.Thread(target=speak)
    speaking.start()
    wait_until(lambda: _stored(engine) > 5 * DEVICES, 60)
    workers.pop(0).kill()
    wait_until(lambda: sorted(holders(engine).values()) == [64], 60, message="nobody took over what the dead one had")
    workers.append(Worker(mosquitto, url, tmp_path / "2.log"))
    speaking.join()
    assert [worker.end() for worker in workers] == [0, 0], (tmp_path / "1.log").read_text()
    (run,) = found
    assert (run.sent, run.held) == (DEVICES * SECONDS, 0)
    with engine.connect() as tx:
        counted = select(REPORT.c.device, func.count(), func.max(REPORT.c.sequence)).group_by(REPORT.c.device)
        assert {tuple(row[1:]) for row in tx.execute(counted)} == {(SECONDS, SECONDS)}
    assert holders(engine) == {"": 64}, "they gave their shards away at the end"
    engine.dispose()


def _stored(engine) -> int:
    with engine.connect() as tx:
        return tx.scalar(select(func.count()).select_from(REPORT))
