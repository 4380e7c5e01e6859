"""The artifacts of a bundle in their order: the best that gives its golden answers serves.

One that goes wrong makes way for the next, and for no verdict at all where none is left; a circuit breaker for each
says when it is tried again. Each change is said aloud.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from device_agent.breaker import Breaker
from device_agent.contract.errors import BadInput, LinesideError, SelfTestFailed
from device_agent.contract.manifest import ArtifactManifest, BundleManifest
from device_agent.runtimes import Runtime, open_runtime
from device_agent.trial import Fault, Trial, aside, audition, find_fault

Open = Callable[[ArtifactManifest], Runtime]
Event = Callable[[str, str], None]


class NoVerdict:
    """Stands in the place of a runtime when no artifact can serve: no frame gets an answer."""

    name, version, classes = "none", "", 0

    def encode(self, image: NDArray[np.uint8]) -> NDArray[Any]:
        """Refused, whatever the image.

        Raises:
            LinesideError: always.
        """
        raise LinesideError("no artifact of the bundle can serve")

    def invoke(self, tensor: NDArray[Any]) -> NDArray[np.float32]:
        """As `encode`.

        Raises:
            LinesideError: always.
        """
        raise LinesideError("no artifact of the bundle can serve")

    def close(self) -> None:
        """Nothing is held."""


class Serving(NamedTuple):
    """The artifact that answers now; `degraded` says that it is not the first choice. Where none can, `runtime` is
    NoVerdict, and `artifact` the one that answered last."""

    runtime: Runtime
    artifact: ArtifactManifest
    degraded: bool

    @property
    def answers(self) -> bool:
        """Does a frame get an answer?"""
        return not isinstance(self.runtime, NoVerdict)

    @property
    def name(self) -> str:
        """As the command line names it, for example litert-int8; "none" where none can serve."""
        return artifact_name(self.artifact) if self.answers else self.runtime.name


class Rungs:
    """The artifacts from the best down, and which of them serves.

    `descend` finds the first one; after that `check`, `descend` and `probe` return what serves from now on. `clock` is
    monotonic in ns; `beside` runs the trial of an artifact without making its caller wait.
    """

    def __init__(
        self,
        artifacts: list[ArtifactManifest],
        images: NDArray[np.uint8],
        open_: Open,
        event: Event,
        *,
        clock: Callable[[], int] = time.monotonic_ns,
        beside: Callable[[Callable[[], None]], None] = aside,
    ) -> None:
        self._artifacts, self._images, self._open, self._event = artifacts, images, open_, event
        self._clock, self._beside = clock, beside
        self._breakers = [Breaker() for _ in artifacts]
        self._said = [""] * len(artifacts)
        self._at = -1
        self._serving: Serving | None = None
        self._trial: Trial | None = None

    def descend(self, said: str = "") -> Serving:
        """The next artifact that loads and gives its golden answers; `said` is why the one before may not serve any
        more. One that was found wrong lately is passed over. Where none is left, nothing answers until `probe` finds
        one.

        Raises:
            SelfTestFailed: none can serve from the beginning.
        """
        return self._descend(Fault(said))

    def check(self, serving: Serving) -> Serving:
        """The serving artifact if it still gives its golden answers, else the next one."""
        fault = find_fault(serving.runtime, serving.artifact, self._images) if serving.answers else None
        if fault is None:
            return serving
        said = f"{serving.name}: {fault.text}"
        self._event("self_test_failed", said)
        return self._descend(Fault(said, fault.lasting))

    def probe(self) -> Serving:
        """What serves; a better artifact again, once it has passed the trial that is due after its back-off.

        To be called often: it starts a trial and takes its result, and waits for neither.
        """
        assert self._serving is not None, "descend comes first"
        if self._trial is None:
            now_ns = self._clock()
            rung = next((k for k in range(self._at) if self._breakers[k].is_due(now_ns)), None)
            if rung is None:
                return self._serving
            self._trial = trial = Trial(rung)
            self._beside(lambda: trial.run(lambda: audition(self._artifacts[rung], self._images, self._open)))
        trial, result = self._trial, self._trial.result
        if result is None:
            return self._serving
        self._trial = None
        if isinstance(result, Fault):
            self._refuse(trial.rung, result)
            return self._serving
        return self._ascend(trial.rung, result)

    def _descend(self, fault: Fault) -> Serving:
        before = self._serving
        if before is None:
            self._serving, said = self._next()
            if self._serving is None:
                raise SelfTestFailed(f"no artifact of the bundle can serve; the last one, {said}")
        elif before.answers:
            before.runtime.close()
            self._breakers[self._at].trip(self._clock(), lasting=fault.lasting)
            self._said[self._at] = fault.text
            found, _ = self._next()
            self._serving = found or Serving(NoVerdict(), before.artifact, True)
            serves = f"{found.name} serves" if found else "none is left, no frame gets a verdict"
            self._event("breaker_open", f"{fault.text}; {serves}")
        assert self._serving is not None
        return self._serving

    def _next(self) -> tuple[Serving | None, str]:
        """The next artifact that can serve; without one, why the last could not."""
        said = ""
        while (rung := self._at + 1) < len(self._artifacts):
            self._at = rung
            if self._breakers[rung].is_open(self._clock()):
                continue
            found = audition(self._artifacts[rung], self._images, self._open)
            if not isinstance(found, Fault):
                self._breakers[rung].close(self._clock())
                return Serving(found, self._artifacts[rung], rung > 0), said
            said = self._refuse(rung, found)
        self._at = len(self._artifacts)
        return None, said

    def _ascend(self, rung: int, runtime: Runtime) -> Serving:
        self.close()
        self._breakers[rung].close(self._clock())
        self._said[rung], self._at = "", rung
        self._serving = serving = Serving(runtime, self._artifacts[rung], rung > 0)
        self._event("breaker_closed", f"{serving.name} gives its golden answers again and serves")
        return serving

    def _refuse(self, rung: int, fault: Fault) -> str:
        """Shut an artifact out for a time; what is the matter is told when it is new."""
        self._breakers[rung].trip(self._clock(), lasting=fault.lasting)
        said = f"{artifact_name(self._artifacts[rung])}: {fault.text}"
        if said != self._said[rung]:
            self._said[rung] = said
            self._event("artifact_refused", said)
        return said

    def close(self) -> None:
        """Release the runtime that serves, and the one that is on trial."""
        if self._trial is not None:
            self._trial.abandon()
            self._trial = None
        if self._serving is not None:
            self._serving.runtime.close()
            self._serving = None


def artifact_name(artifact: ArtifactManifest) -> str:
    """Runtime and precision, as people name an artifact."""
    return f"{artifact.runtime}-{artifact.precision}"


def choose(manifest: BundleManifest, first: str | None) -> list[ArtifactManifest]:
    """The artifacts in their order of trial: `first`, then the bundle's order.

    Raises:
        BadInput: the bundle has no artifact of that name.
    """
    names = [artifact_name(artifact) for artifact in manifest.artifacts]
    if first is not None and first not in names:
        raise BadInput(f"artifact {first!r} is not in the bundle; it has {', '.join(names)}")
    return sorted(manifest.artifacts, key=lambda artifact: artifact_name(artifact) != first)


def opener(folder: Path, threads: int) -> Open:
    """Opens artifacts whose files lie in `folder`."""

    def open_artifact(artifact: ArtifactManifest) -> Runtime:
        return open_runtime(artifact.runtime, folder / artifact.files[0].name, artifact.input, threads=threads)

    return open_artifact
