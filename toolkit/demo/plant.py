"""The demo's plant: a broker, a monitor with its page, and five agents on two lines, all real programs."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import msgspec

from device_agent.contract.alert import Alert
from device_agent.contract.errors import LinesideError
from toolkit.demo.broker import start_broker
from toolkit.demo.programs import Programs, free_port, script, wait_until

FPS = {"synthetic": 20, "folder": 40}  # a picture costs more to draw than to read
INTERVAL_S = 1.0


class Camera(msgspec.Struct, frozen=True):
    """One device of the demo and the artifact it runs."""

    device: str
    line: str
    product: str
    artifact: str


CAMERAS = (
    Camera("cam-1a", "line-1", "bracket", "litert-int8"),
    Camera("cam-1b", "line-1", "bracket", "onnx-int8"),
    Camera("cam-2a", "line-2", "housing", "litert-int8"),
    Camera("cam-2b", "line-2", "housing", "onnx-int8"),
    Camera("cam-2c", "line-2", "housing", "openvino-int8"),
)
DIRTY, CHANGED = "cam-1b", "line-2"


class Plant:
    """Starts everything below `folder`; the disturbances begin when their files appear there."""

    def __init__(self, programs: Programs, folder: Path, bundle: Path, source: str, port: int | None) -> None:
        self._programs, self._folder, self._bundle, self._source = programs, folder, bundle, source
        self._store = f"sqlite:///{folder / 'fleet.db'}"
        self.page_port = free_port() if port is None else port
        self.broker = ""

    @property
    def page(self) -> str:
        """Address of the monitor's page."""
        return f"http://127.0.0.1:{self.page_port}"

    def start(self) -> None:
        """Start broker, monitor and agents, and wait until every agent's first reports are in the store.

        Raises:
            LinesideError: one of them did not start; the sentence holds its last line.
        """
        mqtt = free_port()
        broker = f"mqtt://127.0.0.1:{mqtt}"
        self.broker = start_broker(self._programs, self._folder, mqtt)
        devices = self._folder / "devices.csv"
        rows = [f"{camera.device},{camera.line},{camera.line},{camera.product}" for camera in CAMERAS]
        devices.write_text("\n".join(["device,site,line,product", *rows]) + "\n")
        self._fleet("devices", "import", str(devices))
        self._fleet("models", "import", str(self._bundle))
        monitor = [script("lineside-fleet"), "serve", "--broker", broker, "--store", self._store]
        self._programs.start("monitor", [*monitor, "--port", str(self.page_port), "--interval", str(INTERVAL_S)])
        for number, camera in enumerate(CAMERAS):
            self._programs.start(camera.device, self._agent(camera, broker, number))
        wait_until(self._all_report, self._programs, what="a report of every agent in the store", timeout_s=90)

    def _agent(self, camera: Camera, broker: str, number: int) -> list[str]:
        trigger = f"dirt=1,dirt_when={self._trigger('dirt')}" if camera.device == DIRTY else ""
        if camera.line == CHANGED:
            trigger = f"changeover_when={self._trigger('changeover')}"
        fps = FPS[self._source.partition(":")[0]]
        options = ",".join(filter(None, [f"seed={1000 + number}", f"fps={fps}", trigger]))
        separator = "," if "=" in self._source.rpartition(":")[2] else ":"
        return [
            *(script("lineside-agent"), "run", "--bundle", str(self._bundle), "--artifact", camera.artifact),
            *("--source", f"{self._source}{separator}{options}", "--broker", broker, "--device", camera.device),
            *("--state", str(self._folder / "state" / camera.device), "--interval", str(INTERVAL_S)),
        ]

    def _trigger(self, name: str) -> Path:
        return self._folder / f"begin-{name}"

    def disturb(self, name: str) -> int:
        """Begin "dirt" or "changeover" now; the wall-clock time of its onset in ms."""
        self._trigger(name).touch()
        return time.time_ns() // 1_000_000

    def alerts(self) -> list[Alert]:
        """Every alert so far, open or closed, as the monitor's own command gives them."""
        return msgspec.json.decode(self._fleet("alerts", "--all", "--json"), type=list[Alert])

    def reports(self) -> dict[str, int]:
        """Reports in the store of each device, as the monitor's own command counts them."""
        status = msgspec.json.decode(self._fleet("status", "--json"))
        return {row["device"]: row["reports"] for row in status["devices"]}

    def _all_report(self) -> bool:
        counts = self.reports()
        return all(counts.get(camera.device, 0) >= 2 for camera in CAMERAS)

    def _fleet(self, *arguments: str) -> bytes:
        command = [script("lineside-fleet"), *arguments, "--store", self._store]
        done = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, check=False)
        if done.returncode:
            lines = done.stderr.decode(errors="replace").strip().splitlines() or ["no output"]
            raise LinesideError(f"lineside-fleet {' '.join(arguments)} ended with {done.returncode}: {lines[-1]}")
        return done.stdout
