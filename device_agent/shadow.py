"""A candidate model beside the one that serves: it answers every k-th frame in idle time, and nobody acts on what it
says. What both said of the same frames goes with the report."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, NamedTuple

import msgspec
import numpy as np
from msgspec import Meta

from device_agent.classify import Prediction, classify
from device_agent.contract.bundle import read_bundle
from device_agent.contract.errors import BadInput, LinesideError
from device_agent.contract.histogram import BINS, sparse_counts
from device_agent.contract.latency import BUCKETS, bucket_of
from device_agent.contract.manifest import ArtifactManifest, Label
from device_agent.contract.report import Shadow
from device_agent.frames import Frame
from device_agent.rungs import artifact_name, opener
from device_agent.runtimes import Runtime
from device_agent.trial import Fault, audition
from device_agent.unpacking import unpack

STARVED, GAPS = 100, 16
SILENT_NS = 5_000_000_000


class ShadowSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Table [shadow]: the candidate's bundle, and of how many frames it sees one."""

    bundle: Annotated[str, Meta(min_length=1, max_length=4096)]
    every: Annotated[int, Meta(ge=1, le=1_000_000)] = 10


class Candidate(NamedTuple):
    """A model that gives its golden answers, and has the labels and the input of the one that serves."""

    runtime: Runtime
    artifact: ArtifactManifest


def open_candidate(path: Path, state: Path, labels: list[Label], served: list[ArtifactManifest]) -> Candidate:
    """The first artifact of a bundle that takes the frames of the first one `served` and gives its golden answers.

    Raises:
        NotFound, TrustFailed, BadInput: the bundle cannot be read; other labels; the model that serves already; no
            artifact of it takes these frames, or gives its golden answers here.
    """
    bundle = read_bundle(path)
    if bundle.manifest.labels != labels:
        raise BadInput(f"shadow {path}: must have the labels of the model that serves")
    spec, known = served[0].input, {one.model_id for one in served}
    others = [one for one in bundle.manifest.artifacts if one.model_id not in known]
    if not others:
        raise BadInput(f"shadow {path}: is the model that serves; name the bundle of another one")
    fitting = [one for one in others if one.input == spec]
    if not fitting:
        raise BadInput(f"shadow {path}: no artifact takes the frames that are served, {spec.width} x {spec.height}")
    open_ = opener(unpack(bundle, state / "bundles"), bundle.manifest.run.threads)
    said = ""
    for artifact in fitting:
        found = audition(artifact, bundle.golden, open_)
        if not isinstance(found, Fault):
            return Candidate(found, artifact)
        said = f"{artifact_name(artifact)}: {found.text}"
    raise BadInput(f"shadow {path}: no artifact can be used here; {said}")


class Book:
    """What the candidate says of one camera's frames."""

    def __init__(self, model: bytes, classes: int, every: int, starved: Callable[[], None], *, triggered: bool) -> None:
        self._model, self._classes, self._every, self._starved = model, classes, every, starved
        self._triggered = triggered
        self._answered = self._unserved = 0
        self._last_ns, self._parts = 0, False
        self._gaps_ns: deque[int] = deque(maxlen=GAPS)
        self.kept: tuple[Frame, Prediction] | None = None
        self._open()

    def _open(self) -> None:
        self._frames = 0
        self._matrix = np.zeros((self._classes, self._classes), np.int64)
        self._cells = np.zeros((self._classes, BINS), np.int64)
        self._latency = np.zeros(BUCKETS, np.int64)

    def due_ns(self, now_ns: int) -> float:
        """When this camera's next frame may come: the shortest of its latest gaps after its last one. A camera that is
        silent for `SILENT_NS` is not waited for; a part, which comes when it comes, always is."""
        if not self._last_ns:
            return math.inf
        due_ns = self._last_ns + min(self._gaps_ns, default=0)
        silent = now_ns > due_ns + SILENT_NS and not self._parts
        return math.inf if silent else due_ns

    def offer(self, frame: Frame, answer: Prediction) -> None:
        """A frame that was answered: every k-th is kept for idle time, the latest one wins."""
        if self._last_ns:
            self._gaps_ns.append(frame.captured_ns - self._last_ns)
        self._parts = frame.part is not None and self._triggered
        self._last_ns = frame.captured_ns
        self._answered += 1
        if self._answered % self._every:
            return
        self._unserved = self._unserved + 1 if self.kept is not None else 0
        if self._unserved == STARVED:
            self._starved()
        self.kept = (frame, answer)

    def enter(self, served: Prediction, answer: Prediction, spent_us: float) -> None:
        """Count a frame that both have answered."""
        self._frames += 1
        self._matrix[served.label, answer.label] += 1
        self._cells[answer.label, answer.bin] += 1
        self._latency[bucket_of(spent_us)] += 1

    def close_interval(self) -> Shadow | None:
        """What the interval's frames add up to, None if the candidate saw none; the next one begins."""
        if not self._frames:
            return None
        agreed, counts = int(np.trace(self._matrix)), (self._matrix, self._cells, self._latency)
        shadow = Shadow(self._model, self._frames, agreed, *(sparse_counts(each) for each in counts))
        self._open()
        return shadow


class Understudy:
    """The candidate and its books, one a camera. `clock` is monotonic in ns. A candidate that fails is asked no more,
    with one event `shadow_failed`; `shadow_starved` says once that no time is left for it."""

    def __init__(
        self,
        candidate: Candidate,
        classes: int,
        every: int,
        *,
        clock: Callable[[], int],
        event: Callable[[str, str], None],
    ) -> None:
        self._candidate, self._classes, self._every = candidate, classes, every
        self._clock, self._event = clock, event
        self._books: list[Book] = []
        self._spent_ns = 0.0
        self._asked, self._told = True, False

    def book(self, *, triggered: bool = False) -> Book:
        """A camera's own; `triggered`: its frames are parts, of which nobody knows when they come."""
        model = self._candidate.artifact.model_id
        self._books.append(Book(model, self._classes, self._every, self._starve, triggered=triggered))
        return self._books[-1]

    def follow(self, artifact: ArtifactManifest) -> None:
        """Another artifact serves: what was kept is for it no more, and its frames may be others."""
        for book in self._books:
            book.kept = None
        self._fits = artifact.input == self._candidate.artifact.input

    def ready(self, now_ns: int) -> bool:
        """Is a frame kept, and would it be answered before any camera's next frame is expected?"""
        if not (self._asked and self._fits) or all(book.kept is None for book in self._books):
            return False
        return now_ns + self._spent_ns <= min(book.due_ns(now_ns) for book in self._books)

    def work(self) -> None:
        """Answer one frame that was kept."""
        book = next(book for book in self._books if book.kept is not None)
        assert book.kept is not None
        (frame, served), book.kept = book.kept, None
        began_ns = self._clock()
        runtime, artifact = self._candidate
        try:
            logits = runtime.invoke(runtime.encode(frame.image))
            answer = classify(np.asarray(logits, np.float32), artifact.temperature)
        except LinesideError as error:
            self._asked = False
            self._event("shadow_failed", f"{artifact_name(artifact)}: {error}; it is asked no more")
            return
        spent_ns = self._clock() - began_ns
        self._spent_ns = max(float(spent_ns), 0.9 * self._spent_ns + 0.1 * spent_ns)
        book.enter(served, answer, spent_ns / 1e3)

    def _starve(self) -> None:
        if self._asked and self._fits and not self._told:
            self._told = True
            took = f"{self._spent_ns / 1e6:.1f} ms" if self._spent_ns else "its time"
            self._event("shadow_starved", f"no frame leaves the candidate {took}; fewer frames per second would")

    def close(self) -> None:
        """Release the candidate."""
        self._candidate.runtime.close()
