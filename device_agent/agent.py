"""The agent put together: bundle, cameras, runtime, loop."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from device_agent.asked import Between, follow, handlers
from device_agent.config import Settings
from device_agent.contract.bundle import read_bundle
from device_agent.contract.errors import LinesideError
from device_agent.contract.manifest import ArtifactManifest, BundleManifest
from device_agent.desk import Desk
from device_agent.frames import Frames
from device_agent.frames.capture import source_fps
from device_agent.frames.several import Several
from device_agent.journal import open_journal
from device_agent.loop import Loop
from device_agent.rungs import Open, Rungs, choose, opener
from device_agent.shadow import Understudy, open_candidate
from device_agent.unpacking import sweep, unpack
from device_agent.watched import Watched


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
    model, watched = open_model(settings), _watched(settings)
    with ExitStack() as ends:
        desks = [Desk(camera, settings, watched, ends) for camera in settings.cameras]
        for desk in desks:
            desk.deliver()
        event = desks[0].event
        ends.enter_context(watched.open(event))
        lines = [desk.line() for desk in desks]
        sweep(model.folder)
        rungs = Rungs(model.artifacts, model.images, model.open, event)
        ends.callback(rungs.close)
        captures = [desk.capture(model.artifacts[0].input) for desk in desks]
        _bind(model.manifest.run.affinity, event)
        serving = rungs.descend()
        for capture in captures:
            capture.refit(serving.artifact.input)
        sources = [desk.frames(capture, line) for desk, capture, line in zip(desks, captures, lines, strict=True)]
        understudy = _understudy(settings, model, event, ends)
        books = [understudy.book(triggered=desk.camera.trigger is not None) if understudy else None for desk in desks]
        stations = [
            desk.station(model.manifest, line, book) for desk, line, book in zip(desks, lines, books, strict=True)
        ]
        frames: Frames = sources[0]
        if len(sources) > 1:
            several = Several(
                sources,
                lambda at, why: desks[at].event("camera_failed", f"{why}; it is tried again"),
                lambda at: desks[at].event("camera_found", "delivers frames again"),
                fresh=[desk.fresh for desk in desks],
            )
            frames = ends.enter_context(closing(several))
        between = Between()

        def turn() -> None:
            watched.progress.tick()
            between.turn()

        loop = Loop(
            frames,
            rungs,
            serving,
            stations,
            clock=time.monotonic_ns,
            event=event,
            tick=turn,
            busy=watched.busy,
            understudy=understudy,
        )
        for desk in desks:
            commands = handlers(desk, lambda: loop, between, settings)
            desk.listen(commands, lambda asked, desk=desk: follow(desk, between, asked, settings))  # type: ignore[misc]
        answered = loop.run(stop=lambda: stop() or any(desk.courier.broken for desk in desks), limit=settings.frames)
        if any(desk.courier.broken for desk in desks):
            raise LinesideError("the delivery of reports has ended by an error in this program, shown above")
        return answered


def _understudy(
    settings: Settings, model: Model, event: Callable[[str, str], None], ends: ExitStack
) -> Understudy | None:
    """The candidate of the settings; one that cannot be used is told of, and the line goes on without it."""
    asked = settings.shadow
    if asked is None:
        return None
    try:
        candidate = open_candidate(Path(asked.bundle), settings.state, model.manifest.labels, model.artifacts)
    except LinesideError as error:
        event("shadow_failed", str(error))
        return None
    understudy = Understudy(candidate, len(model.manifest.labels), asked.every, clock=time.monotonic_ns, event=event)
    ends.callback(understudy.close)
    event("shadow", f"model {candidate.artifact.model_id.hex()} answers one frame of {asked.every} beside it")
    return understudy


def _watched(settings: Settings) -> Watched:
    first = settings.cameras[0]
    return Watched(
        open_journal(as_json=settings.log == "json"),
        device=first.device,
        state=settings.state,
        interval_s=settings.interval_s,
        fps=source_fps(first.source),
        preview=settings.preview,
        metrics=settings.metrics,
    )


def _bind(cores: list[int] | None, event: Callable[[str, str], None]) -> None:
    if cores and hasattr(os, "sched_setaffinity"):
        try:
            os.sched_setaffinity(0, cores)
        except OSError as error:
            event("affinity_refused", f"cores {cores}: {(error.strerror or str(error)).lower()}")
