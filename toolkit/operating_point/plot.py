"""The plots of an operating point: what each threshold would cost, and what it lets through."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from device_agent.contract.files import write_whole
from toolkit.operating_point.finding import Judged, rates
from toolkit.operating_point.point import OperatingPoint
from toolkit.operating_point.thresholds import candidates

MOST_POINTS = 400
PASS, REVIEW, REJECT = "#2a7f3e", "#c98a00", "#b02a2a"


def plot_operating_point(path: Path, point: OperatingPoint, judged: Judged) -> None:
    """Write a PNG: the cost of a single threshold at each defect score with the band and its cost, and below it the
    shares of defects that escape (with the bound at the band) and of good parts that are rejected.

    Raises:
        NotWritable: the disk is full or read-only.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 8), layout="constrained")
    FigureCanvasAgg(figure)
    cost, shares = figure.subplots(2, 1, sharex=True)
    edges = _thinned(candidates(judged.images.scores))
    _draw_cost(cost, edges, point, judged)
    _draw_shares(shares, edges, point, judged)
    for axes in (cost, shares):
        axes.axvspan(point.low, point.high, color=REVIEW, alpha=0.15)
        axes.axvline(point.low, color=PASS, linewidth=1)
        axes.axvline(point.high, color=REJECT, linewidth=1)
        axes.legend(fontsize=8)
    shares.set(xlabel="defect score (log-odds at the line's prevalence); left of the band a part passes")
    figure.suptitle(
        f"{point.artifact}: pass below {point.low:.2f}, reject from {point.high:.2f}; escape at most "
        f"{100 * point.escape.upper:.2g} % ({100 * point.confidence:g} % confidence)",
        fontsize=10,
    )
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=120, metadata={"Software": None})
    write_whole(path, content.getvalue())


def _draw_cost(axes: Any, edges: NDArray[np.float64], point: OperatingPoint, judged: Judged) -> None:
    images = judged.images
    each = [rates(images, images.scores < edge, images.scores >= edge, point.costs).cost_per_1000 for edge in edges]
    axes.plot(edges, each, color="0.2", label="a single threshold, on all validation images")
    axes.axhline(point.rates.cost_per_1000, color=REVIEW, label="the band, on groups that did not choose it")
    axes.axhline(point.reject_all, color="0.6", linestyle=":", label="reject every part")
    axes.axhline(point.accept_all, color="0.6", linestyle="--", label="pass every part")
    axes.set(ylabel="cost per 1,000 parts", yscale="symlog", ylim=(0, None))


def _draw_shares(axes: Any, edges: NDArray[np.float64], point: OperatingPoint, judged: Judged) -> None:
    images = judged.images

    def curve(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
        order = np.argsort(images.scores[mask])
        sums = np.concatenate([[0.0], np.cumsum(images.weights[mask][order])])
        return np.asarray(sums[np.searchsorted(images.scores[mask][order], edges)] / sums[-1])

    axes.plot(edges, 100 * curve(images.defect), color=PASS, label="defects that would escape")
    axes.plot(edges, 100 * (1 - curve(~images.defect)), color=REJECT, label="good parts that would be rejected")
    for share, at, colour, what in (
        (point.escape, point.low, PASS, "escape"),
        (point.overkill, point.high, REJECT, "overkill"),
    ):
        middle, low, high = 100 * share.rate, 100 * share.lower, 100 * share.upper
        bars = [[middle - low], [high - middle]]
        axes.errorbar([at], [middle], bars, color=colour, marker="o", capsize=4, label=f"{what}, with its bounds")
    axes.set(ylabel="%", yscale="symlog", ylim=(0, 110))


def _thinned(edges: NDArray[np.float64]) -> NDArray[np.float64]:
    step = max(1, len(edges) // MOST_POINTS)
    return np.unique(np.concatenate([edges[::step], edges[-1:]]))
