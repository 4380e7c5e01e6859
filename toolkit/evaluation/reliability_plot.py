"""The reliability plot: confidence against the share of right answers, one line an artifact."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from device_agent.contract.files import write_whole
from toolkit.evaluation.scores import Evaluation


def plot_reliability(path: Path, evaluations: Sequence[Evaluation]) -> None:
    """Write a PNG of the reliability curves; each dot stands for equally many answers of its model.

    Raises:
        NotWritable: the disk is full or read-only.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 6.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="0.7", linewidth=1, label="calibrated")
    for one in evaluations:
        confidence = [bin_.confidence for bin_ in one.reliability]
        label = f"{one.artifact}  ECE {one.ece:.3f} (before {one.ece_raw:.3f}), T {one.temperature:.2f}"
        right = [bin_.accuracy for bin_ in one.reliability]
        axes.plot(confidence, right, marker="o", markersize=4, linewidth=0.8, alpha=0.7, label=label)
    lowest = min(value for one in evaluations for bin_ in one.reliability for value in (bin_.confidence, bin_.accuracy))
    start = max(0.0, lowest - 0.05)
    axes.set(xlim=(start, 1.01), ylim=(start, 1.01), ylabel="share of right answers")
    axes.set_xlabel("confidence (top-1 probability after the temperature), 15 bins of equally many answers", fontsize=8)
    axes.grid(alpha=0.3)
    figure.legend(fontsize=8, loc="outside upper left")
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=120, metadata={"Software": None})
    write_whole(path, content.getvalue())
