"""BenchmarkReport: how fast and how large an artifact is, and whether that was measured or predicted."""

from __future__ import annotations

from typing import Literal

import msgspec


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
    threads: int
    provenance: Literal["measured", "predicted"]
    runs: int
    p50_ms: float
    p90_ms: float
    p99_ms: float
    min_ms: float
    max_ms: float
    cpu_p50_ms: float | None = None
    preprocess_p50_ms: float | None = None
    load_ms: float | None = None
    first_inference_ms: float | None = None
    rss_peak_mib: float | None = None
    size_mib: float
    valid: bool = True
    flags: list[str] = []
    samples_ms: list[float] = []
