"""Recall under a limit of latency: the best of the artifacts that were measured to be fast enough."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from device_agent.contract.benchmark import BenchmarkReport
from device_agent.contract.codec import read_document_file
from device_agent.contract.errors import BadInput, NotFound
from toolkit.evaluation.figures import Figure
from toolkit.evaluation.scores import Evaluation
from toolkit.runs import Run

Quantile = Literal["p50", "p99"]


class Timed(msgspec.Struct, frozen=True, kw_only=True):
    """An artifact: its measured latency in ms, the figure, and whether it is within the limit. `latency_ms` is None
    where it was not measured, or not since it was converted."""

    artifact: str
    latency_ms: float | None
    figure: Figure
    within: bool


class UnderLimit(msgspec.Struct, frozen=True, kw_only=True):
    """The best figure among the artifacts whose latency was measured to be at most `limit_ms`; `best` is None where
    none is. Latencies are of `device`, which is this workstation unless the benchmark was copied from a board."""

    limit_ms: float
    quantile: Quantile
    metric: str
    device: str
    best: str | None
    artifacts: list[Timed]


def figure_under_limit(
    run: Run, evaluations: Sequence[Evaluation], limit_ms: float, *, quantile: Quantile = "p99", metric: str = ""
) -> UnderLimit:
    """Combine evaluations with RUN/benchmark; `metric` is defect-recall, or balanced accuracy without good classes.

    Raises:
        NotFound: no artifact was measured since it was converted; the sentence names the command.
        BadInput: no such metric, or benchmarks of several devices.
    """
    metric = metric or ("defect-recall" if "defect-recall" in evaluations[0].figures else "balanced-accuracy")
    devices, rows = set(), []
    for one in evaluations:
        if metric not in one.figures:
            raise BadInput(f"{one.artifact}: no figure {metric!r}; there are {', '.join(one.figures)}")
        report = _measured(run, one.artifact)
        latency = None if report is None else (report.p99_ms if quantile == "p99" else report.p50_ms)
        devices |= set() if report is None else {report.device}
        within = latency is not None and latency <= limit_ms
        rows.append(Timed(artifact=one.artifact, latency_ms=latency, figure=one.figures[metric], within=within))
    if not devices:
        raise NotFound(f"{run.dir}: no latency was measured; measure it with: lineside bench {run.dir}")
    if len(devices) > 1:
        raise BadInput(f"{run.dir}: latencies are of several devices ({', '.join(sorted(devices))}); measure them anew")
    inside = [row for row in rows if row.within]
    best = max(inside, key=lambda row: row.figure.value).artifact if inside else None
    return UnderLimit(
        limit_ms=limit_ms, quantile=quantile, metric=metric, device=devices.pop(), best=best, artifacts=rows
    )


def _measured(run: Run, name: str) -> BenchmarkReport | None:
    """The benchmark of an artifact, None where there is none, it was predicted, or is older than the artifact."""
    path = run.dir / "benchmark" / f"{name}.json"
    report = read_document_file(path, BenchmarkReport, hint=f"; measure again with: lineside bench {run.dir}")
    if report is None or report.provenance != "measured":
        return None
    converted = run.artifact_dir(name) / "artifact.json"
    if converted.exists() and path.stat().st_mtime < converted.stat().st_mtime:
        return None
    return report
