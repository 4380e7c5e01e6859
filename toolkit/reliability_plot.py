"""The reliability plot: confidence against the share of right answers, one line an artifact."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from device_agent.contract.files import write_whole
from toolkit.evaluation import Evaluation


def plot_reliability(path: Path, evaluations: Sequence[Evaluation]) -> None:
    """Write a PNG of the reliability curves and, below, how many answers stand behind each point.

    Raises:
        NotWritable: the disk is full or read-only.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 7), layout="constrained")
    FigureCanvasAgg(figure)
    curves, counts = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    curves.plot([0, 1], [0, 1], color="0.7", linewidth=1, label="calibrated")
    for one in evaluations:
        confidence = [bin_.confidence for bin_ in one.reliability]
        label = f"{one.artifact}  ECE {one.ece:.3f} (before {one.ece_raw:.3f}), T {one.temperature:.2f}"
        curves.plot(confidence, [bin_.accuracy for bin_ in one.reliability], marker="o", markersize=4, label=label)
        counts.plot(confidence, [bin_.images for bin_ in one.reliability], marker="o", markersize=3)
    curves.set(ylabel="share of right answers", ylim=(-0.02, 1.02), xlim=(0, 1.02))
    curves.legend(fontsize=8, loc="upper left")
    counts.set(xlabel="confidence (top-1 probability after the temperature)", ylabel="images", yscale="log")
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=120, metadata={"Software": None})
    write_whole(path, content.getvalue())
