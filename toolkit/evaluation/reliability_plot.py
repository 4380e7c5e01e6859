"""The reliability plot: confidence against the share of right answers, one line an artifact."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from device_agent.contract.files import write_whole
from toolkit.evaluation.scores import Evaluation


def plot_reliability(path: Path, evaluations: Sequence[Evaluation]) -> None:
    """Write a PNG of the reliability curves (a larger dot has more answers behind it) and of these numbers.

    Raises:
        NotWritable: the disk is full or read-only.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 7.5), layout="constrained")
    FigureCanvasAgg(figure)
    curves, counts = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    curves.plot([0, 1], [0, 1], color="0.7", linewidth=1, label="calibrated")
    for one in evaluations:
        confidence = [bin_.confidence for bin_ in one.reliability]
        label = f"{one.artifact}  ECE {one.ece:.3f} (before {one.ece_raw:.3f}), T {one.temperature:.2f}"
        right = [bin_.accuracy for bin_ in one.reliability]
        (line,) = curves.plot(confidence, right, linewidth=0.8, alpha=0.5, label=label)
        areas = [6 * bin_.images**0.5 for bin_ in one.reliability]
        curves.scatter(confidence, right, areas, color=line.get_color(), zorder=2)
        counts.plot(confidence, [bin_.images for bin_ in one.reliability], marker="o", markersize=3)
    curves.set(ylabel="share of right answers", ylim=(-0.02, 1.02), xlim=(0, 1.02))
    figure.legend(fontsize=8, loc="outside upper left")
    counts.set(xlabel="confidence (top-1 probability after the temperature)", ylabel="images", yscale="log")
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=120, metadata={"Software": None})
    write_whole(path, content.getvalue())
