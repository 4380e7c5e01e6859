"""An artifact opened and held against its golden answers; at run time beside the loop, which does not wait for it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from device_agent.contract.errors import LinesideError, MissingPackage, NotFound
from device_agent.contract.manifest import ArtifactManifest
from device_agent.runtimes import Runtime
from device_agent.selftest import self_test


class Fault(NamedTuple):
    """Why an artifact may not serve; `lasting` when another attempt soon would end the same way."""

    text: str
    lasting: bool = False


def find_fault(runtime: Runtime, artifact: ArtifactManifest, images: NDArray[np.uint8]) -> Fault | None:
    """What is wrong with an artifact that is open: None when it gives its golden answers for `images` (n, h, w, c).

    Wrong answers of a runtime in this very process are lasting: same file, same code. Those of a device need not be.
    """
    try:
        result = self_test(runtime, images, artifact.golden)
    except LinesideError as error:
        return Fault(str(error))
    return None if result.ok else Fault(result.words, lasting=not getattr(runtime, "killable", False))


def audition(
    artifact: ArtifactManifest, images: NDArray[np.uint8], open_: Callable[[ArtifactManifest], Runtime]
) -> Runtime | Fault:
    """The artifact opened, when it gives its golden answers; else why not, and it is closed."""
    try:
        runtime = open_(artifact)
    except LinesideError as error:
        return Fault(str(error), lasting=isinstance(error, MissingPackage | NotFound))
    fault = find_fault(runtime, artifact, images)
    if fault is None:
        return runtime
    runtime.close()
    return fault


class Trial:
    """One audition of the artifact number `rung`; `result` is None until it is over."""

    def __init__(self, rung: int) -> None:
        self.rung = rung
        self.result: Runtime | Fault | None = None
        self._lock = threading.Lock()
        self._abandoned = False

    def run(self, made: Callable[[], Runtime | Fault]) -> None:
        """Make the audition; whatever it raises is a fault."""
        try:
            result: Runtime | Fault = made()
        except Exception as error:  # noqa: BLE001 - a bug, and no reason to wait for this artifact for ever
            result = Fault(f"error in this program: {type(error).__name__}: {error}", lasting=True)
        with self._lock:
            self.result = result
            if self._abandoned:
                self._release()

    def abandon(self) -> None:
        """Nobody wants the result any more: a runtime is closed, now or when it is there."""
        with self._lock:
            self._abandoned = True
            self._release()

    def _release(self) -> None:
        if self.result is not None and not isinstance(self.result, Fault):
            self.result.close()


def aside(work: Callable[[], None]) -> None:
    """Do it in a thread of its own, which does not keep the program from ending."""
    threading.Thread(target=work, name="trial", daemon=True).start()
