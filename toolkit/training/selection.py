"""Which epoch is kept, and when a training has had its chance.

After a probe, choosing the epoch with the highest macro-F1 would choose luck: with some hundred validation images one
answer moves it by a point, and of ten epochs the luckiest is above a probe that is better. So an epoch replaces the
probe only if it is no worse in what was asked for and in macro-F1, *and* better in the balanced log-loss, which uses
how sure every answer is and so has far less noise; among those the lowest loss is kept. The loss is taken at its own
best temperature: networks that were trained longer are surer than they are right, and the temperature that each
artifact gets undoes that.
"""

from __future__ import annotations

from collections.abc import Sequence

from toolkit.training.checkpoint import Epoch


def score(row: Epoch, stop_on: str) -> tuple[float, ...]:
    """Figures of an epoch, the one that was asked for first; higher is better, ties are broken by the next."""
    ties = (row.val_macro_f1, -row.val_loss)
    if stop_on == "loss":
        return (-row.val_loss, row.val_macro_f1)
    if stop_on == "accuracy":
        return (row.val_accuracy, *ties)
    if stop_on == "balanced-accuracy":
        return (row.val_balanced_accuracy, *ties)
    if stop_on == "defect-recall":
        return (row.val_defect_recall or 0.0, *ties)
    return ties


def best(history: Sequence[Epoch], stop_on: str) -> Epoch:
    """The epoch whose weights are kept: the best by `score`, the earlier of equals; after a probe (epoch 0) the one
    with the lowest loss among those that pass it, or the probe.

    Raises:
        ValueError: no history.
    """
    if not history:
        raise ValueError("no epoch was done")
    probe = history[0]
    if probe.epoch:
        return max(history, key=lambda row: score(row, stop_on))
    passing = [row for row in history[1:] if _passes(row, probe, stop_on)]
    return min(passing, key=_sharp_loss) if passing else probe


def settled(history: Sequence[Epoch], stop_on: str, epochs: int) -> Epoch:
    """What is kept of a training of so many epochs that has come to its end.

    After a probe the rate has fallen to nothing by the last epoch; it and the points between it and the probe are few
    and quiet, and the best of them is no luck. Of a training that stopped early, and of one that has no such points (an
    older version began it and kept no probe), every epoch may be the best.
    """
    probe, last = history[0], history[-1]
    if probe.epoch or last.blend == 1 or last.epoch < epochs:
        return best(history, stop_on)
    return best([probe, *(row for row in history[1:] if row.epoch == last.epoch)], stop_on)


def gains(history: Sequence[Epoch], stop_on: str) -> list[bool]:
    """Whether each epoch was the best when it came."""
    return [best(history[: place + 1], stop_on) is row for place, row in enumerate(history)]


def waited(history: Sequence[Epoch], stop_on: str) -> int:
    """Epochs since the last gain; without a history none."""
    return history[-1].epoch - best(history, stop_on).epoch if history else 0


def _passes(row: Epoch, probe: Epoch, stop_on: str) -> bool:
    asked = score(row, stop_on)[0] >= score(probe, stop_on)[0] and row.val_macro_f1 >= probe.val_macro_f1
    return asked and _sharp_loss(row) < _sharp_loss(probe)


def _sharp_loss(row: Epoch) -> float:
    return row.val_loss if row.val_calibrated_loss is None else row.val_calibrated_loss
