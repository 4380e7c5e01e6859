"""A fleet at its pace through a real Mosquitto into a real monitor: how late reports are acknowledged, what is lost.

python benchmarks/ingest/load.py --store sqlite --devices 100000 --minutes 10      11 minutes
python benchmarks/ingest/load.py --store postgres --devices 100000 --minutes 10
python benchmarks/ingest/load.py --store sqlite --search                           the largest fleet that holds

Every device sends one report a minute, each in its own phase, over one connection; lag is from the moment a report is
sent to the moment its acknowledgement comes, which a monitor sends after the commit. `--search` tries ever larger
fleets for two minutes each, ended by the first one whose reports come later than 5 s at the 99th percentile in the
second minute. `--write` adds the row to load.md.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import resource
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import numpy as np
import plant
import wire
from postgres import Postgres
from sqlalchemy import func, select

from device_agent.contract.codec import decode
from device_agent.contract.errors import BadInput
from device_agent.contract.session import Ack
from fleet.chaos.programs import free_port
from fleet.models import write_models
from fleet.registry import import_places
from fleet.schema import REPORT
from fleet.store import open_store

HERE = Path(__file__).parent
CLASSES, SEED = 10, 5
LAG_S, PATIENCE_S = 5.0, 60.0
GROWTH = 1.25
HEAD = """# A fleet at its pace: one report a minute of each device

{machine} `benchmarks/ingest/load.py`, {classes} classes. Lag: from sending a report to its acknowledgement, which
follows the commit. All figures are measured; broker, sender and monitor share the machine.

| store | devices | minutes | sent | stored | acknowledged | lag median, s | 99 % | worst | CPU | memory, MiB | holds |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |
"""


class Load:
    """Sends the reports of a fleet in time, and hears what is acknowledged; on raw connections, so that this program
    is not what is measured. `sent_s` and `acked_s`: (minutes, devices) on a monotonic clock, nan for none."""

    def __init__(self, port: int, devices: int, minutes: int) -> None:
        self.devices, self.minutes = devices, minutes
        self.sent_s = np.full((minutes, devices), np.nan)
        self.acked_s = np.full((minutes, devices), np.nan)
        self._numbers = {plant.name(k): k for k in range(devices)}
        self._link = wire.connect(port, "load")
        self._ears = wire.connect(port, "ears")
        topic = b"lineside/1/down/+/ack"
        body = struct.pack("!HH", 1, len(topic)) + topic + b"\0"
        self._ears.sendall(b"\x82" + bytes([len(body)]) + body)
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()
        self._acked_to = np.zeros(devices, np.int64)

    def run(self) -> None:
        """All minutes, evenly; returns when everything is acknowledged, or nothing moved for long."""
        began_s = 0.0
        for minute in range(self.minutes):
            packets = [wire.packet(topic, payload) for topic, payload in
                       plant.minute(self.devices, minute + 1, CLASSES, SEED)]  # fmt: skip
            if not minute:
                began_s = time.monotonic()
            start_s = began_s + 60 * minute
            at = 0
            while at < self.devices:
                due = min(self.devices, int((time.monotonic() - start_s) / 60 * self.devices) + 1)
                if due > at:
                    now_s = time.monotonic()
                    self._link.sendall(b"".join(packets[at:due]))
                    self.sent_s[minute, at:due] = now_s
                    at = due
                time.sleep(0.005)
            print(f"minute {minute + 1}: {self.waiting:,} not acknowledged", file=sys.stderr, flush=True)
        last, moved_s = self.waiting, time.monotonic()
        while self.waiting and time.monotonic() - moved_s < PATIENCE_S:
            time.sleep(0.1)
            if self.waiting != last:
                last, moved_s = self.waiting, time.monotonic()

    @property
    def waiting(self) -> int:
        """Reports that were sent and are not acknowledged."""
        return int((~np.isnan(self.sent_s) & np.isnan(self.acked_s)).sum())

    def lag_s(self, from_minute: int = 0) -> np.ndarray:
        """Of reports that were acknowledged."""
        lag = (self.acked_s - self.sent_s)[from_minute:].ravel()
        return lag[~np.isnan(lag)]

    def close(self) -> None:
        """Disconnect."""
        for link in (self._link, self._ears):
            link.close()

    def _listen(self) -> None:
        buffer = b""
        with contextlib.suppress(OSError):
            while chunk := self._ears.recv(1 << 16):
                now_s, buffer = time.monotonic(), buffer + chunk
                buffer = buffer[self._read(buffer, now_s) :]

    def _read(self, buffer: bytes, now_s: float) -> int:
        """Take whole packets; how many bytes they were."""
        at = 0
        while len(buffer) - at >= 2:
            length, shift, head = 0, 0, at + 1
            while True:
                if head >= len(buffer):
                    return at
                digit = buffer[head]
                length, shift, head = length | (digit & 0x7F) << shift, shift + 7, head + 1
                if digit < 0x80:
                    break
            if head + length > len(buffer):
                return at
            if buffer[at] >> 4 == 3:
                self._hear(buffer[head : head + length], now_s)
            at = head + length
        return at

    def _hear(self, body: bytes, now_s: float) -> None:
        end = 2 + struct.unpack("!H", body[:2])[0]
        device = self._numbers[body[2:end].split(b"/")[3].decode()]
        with contextlib.suppress(BadInput):
            ack = decode(body[end:], Ack)
            if ack.epoch == plant.epoch(device) and ack.sequence > self._acked_to[device]:
                self.acked_s[self._acked_to[device] : ack.sequence, device] = now_s
                self._acked_to[device] = ack.sequence


@contextlib.contextmanager
def broker(folder: Path) -> Iterator[int]:
    """A Mosquitto; its port."""
    port = free_port()
    limits = "max_queued_messages 0\nmax_queued_bytes 0\nset_tcp_nodelay true\n"
    (folder / "mosquitto.conf").write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\n{limits}")
    child = subprocess.Popen([shutil.which("mosquitto") or "/usr/sbin/mosquitto", "-c", folder / "mosquitto.conf"],
                             stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
    try:
        for _ in range(100):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            time.sleep(0.05)
        yield port
    finally:
        child.terminate()
        child.wait()


@contextlib.contextmanager
def monitor(port: int, store: str, folder: Path, workers: int) -> Iterator[list[int]]:
    """`lineside-fleet serve`, so many; their process ids."""
    command = [shutil.which("lineside-fleet") or str(Path(sys.executable).with_name("lineside-fleet")), "serve"]
    command += ["--broker", f"mqtt://127.0.0.1:{port}", "--store", store, "--port", "0"]
    logs = [(folder / f"serve-{number}.log").open("w") for number in range(workers)]
    children = [subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT) for log in logs]
    try:
        time.sleep(10 if workers == 1 else 20)
        yield [child.pid for child in children]
    finally:
        for child in children:
            child.terminate()
        for child, log in zip(children, logs, strict=True):
            child.wait(120)
            log.close()


def measure(store: str, devices: int, minutes: int, *, workers: int = 1, from_minute: int = 0) -> dict[str, object]:
    """One run in a folder of its own."""
    with tempfile.TemporaryDirectory(prefix="lineside-load-") as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        folder.chmod(0o755)
        url = f"sqlite:///{folder}/fleet.db"
        if store == "postgres":
            server = Postgres(folder / "postgres")
            server.start()
            stack.callback(server.stop)
            url = server.url
        engine = open_store(url, create=True)
        with engine.begin() as tx:
            write_models(tx, [plant.model(CLASSES)])
            import_places(tx, plant.places(devices))
        port = stack.enter_context(broker(folder))
        pids = stack.enter_context(monitor(port, url, folder, workers))
        before = resource.getrusage(resource.RUSAGE_SELF)
        load = Load(port, devices, minutes)
        began_s, used_s = time.monotonic(), sum(map(cpu_s, pids))
        load.run()
        spent_s, used_s = time.monotonic() - began_s, sum(map(cpu_s, pids)) - used_s
        own_s = resource.getrusage(resource.RUSAGE_SELF).ru_utime - before.ru_utime
        memory = sum(map(memory_mib, pids))
        load.close()
        with engine.connect() as tx:
            stored = tx.scalar(select(func.count()).select_from(REPORT))
        engine.dispose()
        lag = load.lag_s(from_minute)
        quantiles = np.quantile(lag, [0.5, 0.99, 1.0]).round(2).tolist() if len(lag) else [float("nan")] * 3
        sent = devices * minutes
        return {
            "store": store + (f", {workers} workers" if workers > 1 else ""), "devices": devices, "minutes": minutes,
            "sent": sent, "stored": stored, "acked": sent - load.waiting, "median": quantiles[0], "p99": quantiles[1],
            "worst": quantiles[2], "cpu": round(used_s / spent_s, 2), "memory": round(memory),
            "holds": stored == sent and not load.waiting and quantiles[1] < LAG_S, "own_cpu": round(own_s / spent_s, 2),
        }  # fmt: skip


def cpu_s(pid: int) -> float:
    """CPU time of a process and those that it started."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    own = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return own + sum(map(cpu_s, _children(pid)))


def memory_mib(pid: int) -> float:
    """Resident memory of a process and those that it started."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    own = next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024
    return own + sum(map(memory_mib, _children(pid)))


def _children(pid: int) -> list[int]:
    return [int(one) for task in Path(f"/proc/{pid}/task").iterdir() for one in (task / "children").read_text().split()]


def _row(found: dict[str, object]) -> str:
    return (
        f"| {found['store']} | {found['devices']:,} | {found['minutes']} | {found['sent']:,} | {found['stored']:,} | "
        f"{found['acked']:,} | {found['median']} | {found['p99']} | {found['worst']} | {found['cpu']:.0%} | "
        f"{found['memory']:,} | {'yes' if found['holds'] else 'no'} |"
    )


def main() -> None:
    """Measure, print, and write where that is wanted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", choices=["sqlite", "postgres"], default="sqlite")
    parser.add_argument("--devices", type=int, default=100_000)
    parser.add_argument("--minutes", type=int, default=10)
    parser.add_argument("--workers", type=int, default=1, help="for postgres")
    parser.add_argument("--search", action="store_true", help="for the largest fleet that holds, from --devices on")
    parser.add_argument("--write", action="store_true", help="add rows to load.md")
    options = parser.parse_args()
    devices, found = options.devices, []
    while True:
        minutes = 2 if options.search else options.minutes
        one = measure(options.store, devices, minutes, workers=options.workers, from_minute=int(options.search))
        found.append(one)
        print(json.dumps(one), flush=True)
        if not options.search or not one["holds"]:
            break
        devices = int(devices * GROWTH)
    rows = [_row(one) for one in (found[-2:] if options.search else found)]
    print("\n".join(rows))
    if options.write:
        path = HERE / "load.md"
        machine = (
            f"Measured on {os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, shared "
        )
        machine += f"with other work. Date: {date.today()}."
        text = path.read_text() if path.exists() else HEAD.format(machine=machine, classes=CLASSES)
        path.write_text(text + "\n".join(rows) + "\n")


if __name__ == "__main__":
    main()
