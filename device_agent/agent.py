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

from device_agent.clock import wall_s
from device_agent.config import Settings, Timing, phase_s
from device_agent.contract.bundle import read_bundle
from device_agent.contract.codec import SCHEMA
from device_agent.contract.errors import BadInput, LinesideError
from device_agent.contract.manifest import ArtifactManifest, BundleManifest
from device_agent.contract.review import Verdict
from device_agent.contract.session import Birth
from device_agent.courier import Courier, Told
from device_agent.ending import take_cause
from device_agent.frames.capture import Capture
from device_agent.identity import expiry
from device_agent.journal import open_journal
from device_agent.loop import Loop, Outlets, Schedule
from device_agent.measure import device_name
from device_agent.mqtt import Link
from device_agent.recorder import Surroundings
from device_agent.rungs import Open, Rungs, Serving, choose, opener
from device_agent.salvage import open_spool
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
    """Serve until `stop()`, the end of the source or the limit of frames; the number of frames answered.

    The open interval is in the spool when this returns, and sent if the broker took it within 2 s.

    Raises:
        LinesideError: the bundle, the source or the state folder cannot be used; SelfTestFailed when no artifact of
            the bundle can serve.
    """
    log = open_journal(as_json=settings.log == "json")
    model = open_model(settings)
    courier = Courier()

    def event(kind: str, text: str) -> None:
        log(kind, text)
        courier.put(Told(kind, text))

    if settings.broker and (fault := expiry(settings.broker.credentials, datetime.now(timezone.utc))):
        event("certificate", fault)
    with ExitStack() as ends:
        courier.start(lambda: make_uplink(settings, courier, log))
        ends.callback(courier.stop)
        sweep(model.folder)
        rungs = Rungs(model.artifacts, model.images, model.open, event)
        ends.callback(rungs.close)
        capture = ends.enter_context(closing(Capture(settings.source, model.artifacts[0].input, event=event)))
        _bind(model.manifest.run.affinity, event)
        serving = rungs.descend()
        capture.refit(serving.artifact.input)
        verdict = ends.enter_context(_verdicts(settings, event))
        loop = _loop(settings, model.manifest, courier, event, (capture, rungs, serving), verdict)
        answered = loop.run(stop=lambda: stop() or courier.broken, limit=settings.frames)
        if courier.broken:
            raise LinesideError("the delivery of reports has ended by an error in this program, shown above")
        return answered


def make_uplink(settings: Settings, courier: Courier, log: Callable[[str, str], None]) -> Uplink:
    """Spool and uplink of a device; without a broker everything stays in the spool.

    Raises:
        BadInput: another agent uses the state folder.
    """

    def told(kind: str, text: str) -> None:
        log(kind, text)
        courier.put(Told(kind, text))

    if cause := take_cause(settings.state):
        told("ended", f"the last run ended by {cause}")
    if settings.broker is None:
        log("no_broker", "reports are kept in the spool")
    return Uplink(
        lambda: open_spool(settings.state, told, wall=wall_s),
        Link(settings.broker, settings.device, courier.put) if settings.broker else None,
        timing=Timing.of(settings.interval_s),
        clocks=Clocks(time.monotonic, wall_s),
        log=log,
        rng=random.Random(),
        encoding=settings.encoding,
    )


def _loop(
    settings: Settings,
    manifest: BundleManifest,
    courier: Courier,
    event: Callable[[str, str], None],
    parts: tuple[Capture, Rungs, Serving],
    verdict: Callable[[Verdict], None] | None,
) -> Loop:
    telemetry = Telemetry(settings.state)

    def around() -> Surroundings:
        return Surroundings(int(wall_s() * 1000), telemetry.read(), clock_synced())

    def serves(serving: Serving) -> None:
        event("serving", f"{manifest.name} as {serving.name}, model {serving.artifact.model_id.hex()}")
        courier.put(make_birth(settings, manifest, serving))

    return Loop(
        *parts,
        manifest.labels,
        Outlets(courier.put, serves, event, verdict),
        clock=time.monotonic_ns,
        around=around,
        schedule=Schedule(int(settings.interval_s * 1e9), int(phase_s(settings.device, settings.interval_s) * 1e9)),
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
def _verdicts(settings: Settings, event: Callable[[str, str], None]) -> Iterator[Callable[[Verdict], None] | None]:
    """Where verdicts go for the time of the block; what waits is written at its end."""
    if not settings.verdicts:
        yield None
        return
    if sys.stdout is None:
        raise BadInput("--verdicts - needs an open stdout")
    printer = Printer(sys.stdout.fileno(), event)
    try:
        yield printer.put
    finally:
        printer.close()
