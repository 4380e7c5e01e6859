"""BenchmarkReport: how fast and how large an artifact is, and whether that was measured or predicted."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

Positive = Annotated[float, Meta(ge=0)]


class BenchmarkReport(msgspec.Struct, frozen=True, kw_only=True):
    """All times are wall-clock milliseconds of one inference, batch 1, unless named otherwise; sizes in MiB (1024^2).

    `samples_ms` holds the raw times of the invoke loop. `cpu_p50_ms` is thread CPU time. `valid` is False when the run
    was disturbed; `flags` say why.
    """

    schema: str = "1.0"
    device: str
    runtime: str
    runtime_version: str
    precision: str
    threads: Annotated[int, Meta(ge=1)]
    provenance: Literal["measured", "predicted"]
    runs: Annotated[int, Meta(ge=0)]
    p50_ms: Positive
    p90_ms: Positive
    p99_ms: Positive
    min_ms: Positive
    max_ms: Positive
    cpu_p50_ms: Positive | None = None
    preprocess_p50_ms: Positive | None = None
    load_ms: Positive | None = None
    first_inference_ms: Positive | None = None
    rss_peak_mib: Positive | None = None
    size_mib: Positive
    valid: bool = True
    flags: list[str] = []
    samples_ms: list[Positive] = []
