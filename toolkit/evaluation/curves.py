"""Plots of answers: precision against recall of each class, and which classes are taken for which."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from device_agent.contract.files import write_whole
from toolkit.evaluation.figures import Figure, Judged
from toolkit.evaluation.ranking import precision_recall

MOST_NAMED = 30


def plot_precision_recall(path: Path, judged: Judged, figures: dict[str, Figure], title: str) -> None:
    """Write a PNG with a step curve for each class that has images, its average precision in the legend.

    Raises:
        NotWritable: the disk is full or read-only.
    """
    from matplotlib.figure import Figure as Page

    page = Page(figsize=(7, 6), layout="constrained")
    axes = page.subplots()
    truth, scores = judged.truth(), judged.ranking_scores()
    for place, name in enumerate(judged.names):
        found = figures.get(f"ap.{name}")
        if found is None:
            continue
        precision, recall, _ = precision_recall(truth[:, place], scores[:, place])
        label = f"{name}  AP {found.value:.3f} ({found.low:.3f} to {found.high:.3f})".replace("$", r"\$")
        axes.step([0, *recall], [precision[0], *precision], where="pre", linewidth=1.2, label=label)
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1.01), ylim=(0, 1.02))
    axes.grid(alpha=0.3)
    if len(judged.names) <= MOST_NAMED:
        page.legend(fontsize=8, loc="outside lower center", ncols=2)
    page.suptitle(title.replace("$", r"\$"), fontsize=10)
    _write(page, path)


def plot_confusion(path: Path, confusion: list[list[int]], names: list[str], title: str) -> None:
    """Write a PNG of the counts by true and predicted class, shaded by the share of the true class.

    Raises:
        NotWritable: the disk is full or read-only.
    """
    from matplotlib.figure import Figure as Page

    counts = np.array(confusion)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = min(2.4 + 0.5 * len(names), 30)
    page = Page(figsize=(side + 1, side), layout="constrained")
    axes = page.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, column in zip(*np.nonzero(counts), strict=True):
        colour = "white" if shares[row, column] > 0.5 else "black"
        axes.text(column, row, str(counts[row, column]), ha="center", va="center", color=colour, fontsize=8)
    shown = [name.replace("$", r"\$") for name in names]
    axes.set_xticks(range(len(names)), shown, rotation=45, ha="right")
    axes.set_yticks(range(len(names)), shown)
    axes.set(xlabel="predicted", ylabel="true", title=title.replace("$", r"\$"))
    _write(page, path)


def _write(page: object, path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(page)  # type: ignore[arg-type]
    content = io.BytesIO()
    page.savefig(content, format="png", dpi=110, metadata={"Software": None})  # type: ignore[attr-defined]
    write_whole(path, content.getvalue())
