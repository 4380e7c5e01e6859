"""Pictures and tables of a training: its history, and which classes are taken for which."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from device_agent.contract.files import replacing, write_whole
from toolkit.evaluation.metrics import Metrics
from toolkit.training.checkpoint import Epoch
from toolkit.training.health import LayerHealth

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def write_history(path: Path, history: Sequence[Epoch]) -> None:
    """One line an epoch, wholly or not at all; what was not measured is empty."""
    _write_table(path, Epoch, history)


def write_health(path: Path, health: Sequence[LayerHealth]) -> None:
    """One line a layer and epoch, wholly or not at all."""
    _write_table(path, LayerHealth, health)


def _write_table(path: Path, kind: type[msgspec.Struct], rows: Sequence[msgspec.Struct]) -> None:
    out = io.StringIO()
    table = csv.writer(out, lineterminator="\n")
    table.writerow(kind.__struct_fields__)
    for row in rows:
        table.writerow(
            [f"{value:.6g}" if isinstance(value, float) else value for value in msgspec.structs.astuple(row)]
        )
    write_whole(path, out.getvalue())


def plot_history(path: Path, history: Sequence[Epoch], *, kept: int) -> None:
    """Losses on the left, macro-F1 on validation on the right; a line marks the epoch that was kept."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    history = [row for row in history if row.blend == 1]
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    scores = [row.val_macro_f1 for row in history]
    epochs = [row.epoch for row in history]
    left.plot(epochs, [row.loss for row in history], marker=".", label="training")
    left.plot(epochs, [row.val_loss for row in history], marker=".", label="validation")
    left.set(xlabel="epoch", ylabel="balanced loss (nats)", yscale="log")
    left.legend()
    right.plot(epochs, scores, marker=".", color="tab:green")
    right.set(xlabel="epoch", ylabel="macro-F1, validation", ylim=(min(0.8, *scores) - 0.02, 1.01))
    for axes in (left, right):
        axes.axvline(kept, color="0.6", linewidth=1, linestyle="--")
        axes.grid(alpha=0.3)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlim(-0.5, max(epochs) + 0.5)
    if not any(epochs):
        figure.suptitle("the linear probe alone: no epoch was trained", fontsize=10)
    _save(figure, path)


def plot_confusion(path: Path, metrics: Metrics, names: list[str]) -> None:
    """Counts of validation images by true and predicted class, shaded by the share of the true class."""
    from matplotlib.figure import Figure

    counts = np.array(metrics.confusion)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = 2.4 + 0.5 * len(names)
    figure = Figure(figsize=(side + 1, side), layout="constrained")
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, column in zip(*np.nonzero(counts), strict=True):
        dark = shares[row, column] > 0.5
        axes.text(column, row, str(counts[row, column]), ha="center", va="center", color="white" if dark else "black")
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right")
    axes.set_yticks(range(len(names)), names)
    axes.set(xlabel="predicted", ylabel="true", title=f"validation, macro-F1 {metrics.macro_f1:.3f}")
    _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110)
