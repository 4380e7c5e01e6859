"""The artifacts of a bundle in their order: the first that loads and knows its answers serves, and each way down is
said aloud."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from device_agent.contract.errors import BadInput, LinesideError, SelfTestFailed
from device_agent.contract.manifest import ArtifactManifest, BundleManifest
from device_agent.runtimes import Runtime, open_runtime
from device_agent.selftest import self_test

Open = Callable[[ArtifactManifest], Runtime]
Event = Callable[[str, str], None]


class Serving(NamedTuple):
    """The artifact that answers now; `degraded` says that it is not the first choice."""

    runtime: Runtime
    artifact: ArtifactManifest
    degraded: bool

    @property
    def name(self) -> str:
        """As the command line names it, for example litert-int8."""
        return artifact_name(self.artifact)


class Rungs:
    """The artifacts that are left, from the best down."""

    def __init__(self, artifacts: list[ArtifactManifest], images: NDArray[np.uint8], open_: Open, event: Event) -> None:
        self._artifacts, self._images, self._open, self._event = artifacts, images, open_, event
        self._at = -1
        self._serving: Serving | None = None

    def descend(self, said: str = "") -> Serving:
        """The next artifact that loads and passes its self-test; `said` is why the one before may not serve any more.

        Raises:
            SelfTestFailed: there is none left.
        """
        self.close()
        while self._at + 1 < len(self._artifacts):
            self._at += 1
            artifact = self._artifacts[self._at]
            try:
                self._serving = serving = Serving(self._open(artifact), artifact, self._at > 0)
                fault = self._fault(serving)
            except LinesideError as error:
                fault = str(error)
            if not fault:
                return serving
            self.close()
            said = f"{artifact_name(artifact)}: {fault}"
            self._event("artifact_refused", said)
        raise SelfTestFailed(f"no artifact of the bundle can serve; the last one, {said}")

    def check(self, serving: Serving) -> Serving:
        """The serving artifact if it still knows its answers, else the next one.

        Raises:
            SelfTestFailed: there is none left.
        """
        fault = self._fault(serving)
        if not fault:
            return serving
        said = f"{serving.name}: {fault}"
        self._event("self_test_failed", said)
        return self.descend(said)

    def probe(self, now_ns: int) -> Serving | None:
        """A better artifact that answers rightly again; None while there is none."""
        return None

    def _fault(self, serving: Serving) -> str:
        """Why an artifact may not serve; "" when it gives its golden answers."""
        try:
            result = self_test(serving.runtime, self._images, serving.artifact.golden)
        except LinesideError as error:
            return str(error)
        return "" if result.ok else result.words

    def close(self) -> None:
        """Release the runtime that serves."""
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
