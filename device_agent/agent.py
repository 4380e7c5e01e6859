"""The agent put together: bundle, capture process, runtime, loop, courier."""

from __future__ import annotations

import os
import random
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from device_agent.config import Camera, Settings, Timing, phase_s
from device_agent.contract.bundle import read_bundle
from device_agent.contract.codec import SCHEMA
from device_agent.contract.errors import BadInput, LinesideError
from device_agent.contract.manifest import ArtifactManifest, BundleManifest
from device_agent.contract.session import Birth
from device_agent.courier import Courier, Told
from device_agent.drift import DriftWatch
from device_agent.frames import Frames
from device_agent.frames.capture import Capture
from device_agent.frames.several import Several
from device_agent.identity import expiry
from device_agent.journal import open_journal
from device_agent.loop import Loop
from device_agent.measure import device_name
from device_agent.mqtt import Link
from device_agent.recorder import Surroundings
from device_agent.rungs import Open, Rungs, Serving, choose, opener
from device_agent.salvage import open_spool
from device_agent.station import Outlets, Schedule, Station
from device_agent.telemetry import Telemetry, clock_synced
from device_agent.unpacking import sweep, unpack
from device_agent.uplink import Clocks, Uplink
from device_agent.verdicts import Printer


class Model(NamedTuple):
    """A bundle, unpacked into `folder`: its manifest, artifacts in their order of trial, golden images, and how to open
    artifacts."""

    folder: Path
    manifest: BundleManifest
    artifacts: list[ArtifactManifest]
    images: NDArray[np.uint8]
    open: Open


def open_model(settings: Settings) -> Model:
    """The bundle of the settings, verified and unpacked into the state folder.

    Raises:
        NotFound, TrustFailed, UnknownSchema, BadInput, NotWritable: as for `read_bundle`, `unpack` and `rungs.choose`.
    """
    bundle = read_bundle(settings.bundle)
    artifacts = choose(bundle.manifest, settings.artifact)
    folder = unpack(bundle, settings.state / "bundles")
    return Model(folder, bundle.manifest, artifacts, bundle.golden, opener(folder, bundle.manifest.run.threads))


def run_agent(settings: Settings, stop: Callable[[], bool]) -> int:
    """Serve until `stop()`, the end of the sources or the limit of frames; the number of frames answered.

    The open intervals are in the spools when this returns, and sent if the broker took them within 2 s.

    Raises:
        LinesideError: the bundle, a source or a state folder cannot be used; SelfTestFailed when no artifact of
            the bundle can serve.
    """
    log = open_journal(as_json=settings.log == "json")
    model = open_model(settings)
    with ExitStack() as ends:
        desks = [Desk(camera, settings, log) for camera in settings.cameras]
        for desk in desks:
            desk.open()
            ends.callback(desk.courier.stop)
        event = desks[0].event
        sweep(model.folder)
        rungs = Rungs(model.artifacts, model.images, model.open, event)
        ends.callback(rungs.close)
        spec = model.artifacts[0].input
        captures = [ends.enter_context(closing(Capture(desk.camera.source, spec, event=desk.event))) for desk in desks]
        _bind(model.manifest.run.affinity, event)
        serving = rungs.descend()
        for capture in captures:
            capture.refit(serving.artifact.input)
        printer = ends.enter_context(_verdicts(settings, event))
        stations = [ends.enter_context(_station(desk, settings, model.manifest, printer)) for desk in desks]
        frames: Frames = captures[0]
        if len(captures) > 1:
            several = Several(captures, lambda at, why: desks[at].event("camera_ended", why))
            frames = ends.enter_context(closing(several))
        loop = Loop(frames, rungs, serving, stations, clock=time.monotonic_ns, event=event)
        answered = loop.run(stop=lambda: stop() or any(desk.courier.broken for desk in desks), limit=settings.frames)
        if any(desk.courier.broken for desk in desks):
            raise LinesideError("the delivery of reports has ended by an error in this program, shown above")
        return answered


class Desk:
    """What one camera's reports and events go over: log, spool and broker."""

    def __init__(self, camera: Camera, settings: Settings, log: Callable[[str, str], None]) -> None:
        self.camera, self._settings = camera, settings
        several = len(settings.cameras) > 1
        self.log = (lambda kind, text: log(kind, f"{camera.device}: {text}")) if several else log
        self.courier = Courier()

    def event(self, kind: str, text: str) -> None:
        """Log something and tell the monitor; from any thread."""
        self.log(kind, text)
        self.courier.put(Told(kind, text))

    def open(self) -> None:
        """Open the spool, and begin to deliver.

        Raises:
            BadInput: another agent uses the state folder.
        """
        self.courier.start(lambda: make_uplink(self.camera, self._settings, self.courier, self.log))
        broker = self.camera.broker
        if broker and (fault := expiry(broker.credentials, datetime.now(timezone.utc))):
            self.event("certificate", fault)


def make_uplink(camera: Camera, settings: Settings, courier: Courier, log: Callable[[str, str], None]) -> Uplink:
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
        lambda: open_spool(camera.state, told),
        Link(camera.broker, camera.device, courier.put) if camera.broker else None,
        timing=Timing.of(settings.interval_s),
        clocks=Clocks(time.monotonic, time.time),
        log=log,
        rng=random.Random(),
        encoding=settings.encoding,
    )


@contextmanager
def _station(desk: Desk, settings: Settings, manifest: BundleManifest, printer: Printer | None) -> Iterator[Station]:
    """The books of a camera; at the end of the block its breaker's memory is kept."""
    telemetry, camera = Telemetry(desk.camera.state), desk.camera
    baselines = {artifact.model_id: artifact.baseline for artifact in manifest.artifacts}
    interval_ns = int(settings.interval_s * 1e9)

    def around() -> Surroundings:
        return Surroundings(time.time_ns() // 1_000_000, telemetry.read(), clock_synced())

    def serves(serving: Serving) -> None:
        desk.event("serving", f"{manifest.name} as {serving.name}, model {serving.artifact.model_id.hex()}")
        desk.courier.put(make_birth(settings, manifest, serving))

    judge = DriftWatch(
        manifest.labels, baselines, settings.breaker, camera.state, desk.event, interval_ms=interval_ns // 1_000_000
    )
    with closing(judge), ExitStack() as ends:
        keeper = None
        if settings.samples is not None:
            from device_agent.samples.service import Samples  # here: cryptography takes its time to import

            keeper = Samples(
                settings.samples,
                device=camera.device,
                state=camera.state,
                credentials=camera.credentials,
                uploaded=desk.courier.put,
                event=desk.event,
            )
            ends.callback(keeper.close)
        yield Station(
            camera.device,
            manifest.labels,
            Outlets(desk.courier.put, serves, desk.event, printer, judge, keeper),
            around=around,
            schedule=Schedule(interval_ns, int(phase_s(camera.device, settings.interval_s) * 1e9)),
        )


def make_birth(settings: Settings, manifest: BundleManifest, serving: Serving) -> Birth:
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
        interval_ms=int(settings.interval_s * 1000),
        hardware=device_name(),
        clock_synced=clock_synced(),
    )


def _bind(cores: list[int] | None, event: Callable[[str, str], None]) -> None:
    if cores and hasattr(os, "sched_setaffinity"):
        try:
            os.sched_setaffinity(0, cores)
        except OSError as error:
            event("affinity_refused", f"cores {cores}: {(error.strerror or str(error)).lower()}")


@contextmanager
def _verdicts(settings: Settings, event: Callable[[str, str], None]) -> Iterator[Printer | None]:
    """Where verdicts go for the time of the block; what waits is written at its end."""
    if not settings.verdicts:
        yield None
        return
    if sys.stdout is None:
        raise BadInput("--verdicts - needs an open stdout")
    printer = Printer(sys.stdout.fileno(), event)
    try:
        yield printer
    finally:
        printer.close()
