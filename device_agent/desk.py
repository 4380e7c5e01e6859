"""What belongs to one camera of an agent: its delivery, its line, its frames, and its books."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from datetime import datetime, timezone
from functools import partial
from importlib.metadata import version

from device_agent.clock import wall_s
from device_agent.config import Camera, Settings, Timing, phase_s
from device_agent.contract.codec import SCHEMA
from device_agent.contract.credentials import Credentials
from device_agent.contract.errors import LinesideError
from device_agent.contract.manifest import BundleManifest, InputSpec
from device_agent.contract.report import DeviceReport
from device_agent.contract.session import Birth
from device_agent.courier import Courier, Told
from device_agent.drift import DriftWatch
from device_agent.frames import LIVE, Frames
from device_agent.frames.capture import Capture
from device_agent.identity import ending
from device_agent.measure import device_name
from device_agent.mqtt import Link
from device_agent.outputs.line import Line, open_line
from device_agent.recorder import Surroundings
from device_agent.remote import remote
from device_agent.remote.remote import Handler
from device_agent.remote.settings import RemoteSettings
from device_agent.rungs import Serving
from device_agent.salvage import open_spool
from device_agent.station import Keeper, Outlets, Schedule, Second, Station
from device_agent.telemetry import Telemetry, clock_synced
from device_agent.uplink import Clocks, Uplink
from device_agent.watched import Watched

COUNT_S, DAY_S = 2.0, 86_400.0


class Desk:
    """One camera's part of a run. Everything that it opens is closed by `ends`."""

    def __init__(self, camera: Camera, settings: Settings, watched: Watched, ends: ExitStack) -> None:
        self.camera, self._settings, self._watched, self._ends = camera, settings, watched, ends
        self._several = len(settings.cameras) > 1
        self._first, self._live = camera is settings.cameras[0], watched.camera(camera.device)
        self.interval_s, self.waiting = settings.interval_s, 0
        self._counted_s, self._looked_s, self._say_birth = 0.0, -DAY_S, _nothing
        self._line: Line | None = None
        self.courier = Courier(self._turned)

    def _turned(self, uplink: Uplink) -> None:
        """The courier has turned: now and then it counts what waits."""
        if (now_s := time.monotonic()) - self._counted_s >= COUNT_S:
            self._counted_s, self.waiting = now_s, uplink.waiting
            self._live.gauge("spool_rows", self.waiting)
        if now_s - self._looked_s >= DAY_S:
            self._looked_s = now_s
            self._look_at_certificate()
        if self._first:
            self._watched.progress.courier()

    def _look_at_certificate(self) -> None:
        """Say at the start, and then once a day, that the certificate has ended or is about to."""
        broker = self.camera.broker
        try:
            said = ending(broker.credentials, datetime.now(timezone.utc)) if broker else ""
        except LinesideError as error:
            said = str(error)
        if said:
            self.event("certificate", said)

    def log(self, kind: str, text: str) -> None:
        """A line for a person, with the camera's name where there are several."""
        self._watched.log(kind, text, self.camera.device)

    def event(self, kind: str, text: str) -> None:
        """Log something and tell the monitor; from any thread."""
        self.log(kind, text)
        self.courier.put(Told(kind, text))

    def deliver(self) -> None:
        """Open the spool, and begin to deliver.

        Raises:
            BadInput: another agent uses the state folder.
        """
        noted = partial(self._watched.noted, self.camera.device)
        self.courier.start(lambda: make_uplink(self.camera, self._settings, self.courier, self.log, noted))
        self._ends.callback(self.courier.stop)

    def listen(self, handlers: dict[str, Handler], apply: Callable[[RemoteSettings], None]) -> None:
        """Hear what the fleet asks; what it asked before this start holds at once.

        Raises:
            NotFound, BadInput: a key that is none.
        """
        clocks = remote.Clocks(time.monotonic, wall_s)
        camera = self.camera
        asks = remote.Remote(
            camera.device, camera.fleet_key, camera.state, handlers=handlers, apply=apply, respond=self.courier.put,
            event=self.event, clocks=clocks,
        )  # fmt: skip
        self._ends.callback(asks.close)
        apply(asks.settings)
        self.courier.listen(asks)

    def report_every(self, interval_s: float) -> None:
        """Report at another interval from now on, and say so; called by the loop."""
        if interval_s != self.interval_s:
            self.interval_s = interval_s
            self._station.reschedule(self.schedule(interval_s), time.monotonic_ns())
            self.drift.retime(int(interval_s * 1000))
            self._watched.retime(self.camera.device, interval_s)
            self.courier.put(Timing.of(interval_s))
            self._say_birth()

    def capture(self, spec: InputSpec) -> Capture:
        """The camera's process, begun."""

        def told(kind: str, text: str) -> None:
            if kind == "camera_lost" and self._line is not None:
                self._line.blind()
            self.event(kind, text)

        return self._ends.enter_context(closing(Capture(self.camera.source, spec, event=told)))

    @property
    def fresh(self) -> bool:
        """Does its camera deliver at its own rate, so that only the latest frame counts?"""
        source = self.camera.source
        return self.camera.trigger is None and (source.kind in LIVE or "fps" in source.options)

    def line(self) -> Line | None:
        """Whom its answers go to; None if nobody asked.

        Raises:
            LinesideError: an output that cannot be used.
        """
        if self.camera.line is None:
            return None
        device = self.camera.device if self._several else ""
        self._line = line = open_line(self.camera.line, self.event, device=device)
        self._ends.callback(line.close)
        return line

    def frames(self, capture: Capture, line: Line | None) -> Frames:
        """The camera's frames, or those that its trigger asks for.

        Raises:
            LinesideError: a trigger that cannot be used.
        """
        if self.camera.trigger is None:
            return capture
        from device_agent.triggers import Fired, open_trigger
        from device_agent.triggers.triggered import Triggered

        def told(fired: Fired) -> None:
            if line is not None:
                line.expect(fired.number, fired.at_ns, fired.number)

        def missed(fired: Fired, reason: str) -> None:
            if line is not None:
                line.missed(fired.number, fired.at_ns, reason)

        secure = self.camera.trigger.target.startswith("mqtts://")
        credentials = self.camera.credentials if secure else Credentials()
        trigger = open_trigger(self.camera.trigger, told, self.event, credentials)
        looked = partial(self._watched.looked, self.camera.device)
        return self._ends.enter_context(closing(Triggered(capture, trigger, missed, self.event, looked=looked)))

    def station(self, manifest: BundleManifest, line: Line | None, second: Second | None) -> Station:
        """The camera's books.

        Raises:
            LinesideError: samples that cannot be kept.
        """
        telemetry, watched = Telemetry(self.camera.state), self._watched

        def around() -> Surroundings:
            return Surroundings(int(wall_s() * 1000), telemetry.read(), clock_synced())

        def serves(serving: Serving) -> None:
            self.event("serving", f"{manifest.name} as {serving.name}, model {serving.artifact.model_id.hex()}")

            def say() -> None:
                self.courier.put(make_birth(self.interval_s, manifest, serving))

            self._say_birth = say
            say()
            watched.serves(self.camera.device, serving, manifest)

        def publish(report: DeviceReport) -> None:
            self.courier.put(report)
            self._live.report(report)

        self.drift = self._drift(manifest)
        seen = partial(watched.answered, self.camera.device)
        self._station = Station(
            self.camera.device,
            manifest.labels,
            Outlets(publish, serves, self.event, line, self.drift, self._keeper(), seen, second),
            around=around,
            schedule=self.schedule(self.interval_s),
        )
        return self._station

    def schedule(self, interval_s: float) -> Schedule:
        """When its reports are due."""
        return Schedule(int(interval_s * 1e9), int(phase_s(self.camera.device, interval_s) * 1e9))

    def _drift(self, manifest: BundleManifest) -> DriftWatch:
        baselines = {artifact.model_id: artifact.baseline for artifact in manifest.artifacts}
        interval_ms, state = int(self._settings.interval_s * 1000), self.camera.state
        watch = DriftWatch(
            manifest.labels, baselines, self._settings.breaker, state, self.event, interval_ms=interval_ms
        )
        return self._ends.enter_context(closing(watch))

    def _keeper(self) -> Keeper | None:
        if self._settings.samples is None:
            return None
        from device_agent.samples.service import Samples  # here: cryptography takes its time to import

        camera = self.camera
        keeper = Samples(
            self._settings.samples,
            device=camera.device,
            state=camera.state,
            credentials=camera.credentials,
            uploaded=self.courier.put,
            event=self.event,
        )
        self._ends.callback(keeper.close)
        return keeper


def _nothing() -> None:
    """What a birth says before there is one."""


def make_uplink(
    camera: Camera,
    settings: Settings,
    courier: Courier,
    log: Callable[[str, str], None],
    noted: Callable[[str, int], None],
) -> Uplink:
    """Spool and uplink of a camera; without a broker everything stays in the spool.

    Raises:
        BadInput: another agent uses the state folder.
    """

    def told(kind: str, text: str) -> None:
        log(kind, text)
        courier.put(Told(kind, text))

    if camera.broker is None:
        log("no_broker", "reports are kept in the spool")
    return Uplink(
        lambda: open_spool(camera.state, told, wall=wall_s),
        Link(camera.broker, camera.device, courier.put) if camera.broker else None,
        timing=Timing.of(settings.interval_s),
        clocks=Clocks(time.monotonic, wall_s),
        log=log,
        rng=random.Random(),
        encoding=settings.encoding,
        noted=noted,
    )


def make_birth(interval_s: float, manifest: BundleManifest, serving: Serving) -> Birth:
    """What the device says of itself; epoch and boot are the spool's."""
    return Birth(
        schema=SCHEMA,
        epoch=0,
        boot=0,
        agent=version("lineside"),
        model=serving.artifact.model_id,
        model_name=manifest.name,
        labels=[label.name for label in manifest.labels],
        runtime=serving.name,
        interval_ms=int(interval_s * 1000),
        hardware=device_name(),
        clock_synced=clock_synced(),
    )
