"""What an interval's frames add up to: one DeviceReport."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from device_agent.classify import Prediction
from device_agent.contract.codec import SCHEMA
from device_agent.contract.histogram import BINS, ConfidenceHistogram
from device_agent.contract.latency import BUCKETS, bucket_of
from device_agent.contract.report import CLOCK_SYNCED, DEGRADED, STAGES, DeviceReport, ImageQuality, System
from device_agent.frames import Frame
from device_agent.quality import measure


class Surroundings(NamedTuple):
    """What a report says beside its frames: wall clock in ms since 1970, the board, whether the clock is set."""

    wall_ms: int
    system: System | None = None
    clock_synced: bool | None = None


class Recorder:
    """Counts the frames of one model. `now_ns` is monotonic throughout; `stamp` is that of the last frame, `after` that
    of the last one that another model's recorder has counted."""

    def __init__(
        self, model: bytes, classes: int, now_ns: int, *, degraded: bool = False, after: int | None = None
    ) -> None:
        self.model, self._classes, self._degraded = model, classes, degraded
        self.stamp = after
        self._part: int | None = None
        self._cell: tuple[int, int] | None = None
        self._image: NDArray[np.uint8] | None = None
        self.self_test_ok: bool | None = None
        self._open(now_ns)

    def _open(self, now_ns: int) -> None:
        self._started_ns = now_ns
        self._frames = self._dropped = self._parts = self._same = self._identical = 0
        self._counts = np.zeros((self._classes, BINS), np.int64)
        self._latency = [[0] * BUCKETS for _ in STAGES]
        self._quality = [0.0, 0.0, 0.0]

    def add(self, frame: Frame, answer: Prediction, stages_us: tuple[float, float, float, float]) -> None:
        """Count one frame; `stages_us` are capture, preprocess, infer and post."""
        self._frames += 1
        self._follow(frame)
        self._parts += frame.part is not None and frame.part != self._part
        cell = (answer.label, answer.bin)
        self._same += cell == self._cell
        self._identical += self._image is not None and np.array_equal(frame.image, self._image)
        self._part, self._cell, self._image = frame.part, cell, frame.image
        self._counts[cell] += 1
        for buckets, spent_us in zip(self._latency, stages_us, strict=True):
            buckets[bucket_of(spent_us)] += 1
        for k, value in enumerate(measure(frame.image)):
            self._quality[k] += value

    def drop(self, frame: Frame) -> None:
        """Count a frame that got no answer."""
        self._follow(frame)
        self._dropped += 1

    def _follow(self, frame: Frame) -> None:
        """Count as dropped what a gap before this frame's stamp says was missed."""
        if self.stamp is not None:
            self._dropped += max(0, frame.stamp - self.stamp - 1)
        self.stamp = frame.stamp

    def close(self, now_ns: int, around: Surroundings) -> DeviceReport:
        """The report of the interval that ends now; the next one begins. Epoch, sequence and boot are the spool's."""
        flags = (CLOCK_SYNCED if around.clock_synced else 0) | (DEGRADED if self._degraded else 0)
        report = DeviceReport(
            schema=SCHEMA,
            epoch=0,
            sequence=0,
            boot=0,
            wall_ms=around.wall_ms,
            monotonic_ms=now_ns // 1_000_000,
            interval_ms=(now_ns - self._started_ns) // 1_000_000,
            model=self.model,
            frames=self._frames,
            dropped=self._dropped,
            parts=self._parts,
            same=self._same,
            identical=self._identical,
            histogram=ConfidenceHistogram.of(self._counts),
            latency=[_sparse(buckets) for buckets in self._latency],
            quality=self._mean_quality(),
            system=around.system,
            self_test_ok=self.self_test_ok,
            flags=flags,
        )
        self._open(now_ns)
        return report

    def _mean_quality(self) -> ImageQuality | None:
        if not self._frames:
            return None
        brightness, sharpness, clipped = (total / self._frames for total in self._quality)
        return ImageQuality(round(brightness), round(sharpness), round(1000 * clipped))


def _sparse(buckets: list[int]) -> list[int]:
    return [number for bucket, count in enumerate(buckets) if count for number in (bucket, count)]
