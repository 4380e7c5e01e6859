"""Which epoch is kept: the best by what was asked for; after a probe, one that is better by more than luck."""

from __future__ import annotations

import pytest

from toolkit.training.checkpoint import Epoch
from toolkit.training.selection import best, gains, score, waited


def _row(epoch: int, f1: float, loss: float = 1.0, calibrated: float | None = None, **more: float) -> Epoch:
    return Epoch(
        epoch=epoch,
        loss=1.0,
        val_loss=loss,
        val_accuracy=more.pop("accuracy", f1),
        val_macro_f1=f1,
        rate=0.1,
        seconds=1.0,
        val_calibrated_loss=calibrated,
        **more,  # type: ignore[arg-type]
    )


def test_from_scratch_the_first_of_equals_is_best_and_loss_breaks_ties() -> None:
    assert best([_row(1, 0.8), _row(2, 0.8)], "macro-f1").epoch == 1
    assert best([_row(1, 0.8), _row(2, 0.8, loss=0.5), _row(3, 0.7, loss=0.1)], "macro-f1").epoch == 2


@pytest.mark.parametrize(
    ("stop_on", "epoch"),
    [("macro-f1", 1), ("accuracy", 2), ("loss", 3), ("balanced-accuracy", 4), ("defect-recall", 5)],
)
def test_what_was_asked_for_decides(stop_on: str, epoch: int) -> None:
    history = [
        _row(1, 0.9, accuracy=0.1),
        _row(2, 0.5, accuracy=0.9),
        _row(3, 0.5, loss=0.1, accuracy=0.1),
        _row(4, 0.5, accuracy=0.1, val_balanced_accuracy=0.9),
        _row(5, 0.5, accuracy=0.1, val_defect_recall=0.9),
    ]
    assert best(history, stop_on).epoch == epoch


def test_everything_called_a_defect_wins_no_tie() -> None:
    all_defect, good = _row(1, 0.2, val_defect_recall=1.0), _row(2, 0.9, val_defect_recall=1.0)
    assert score(good, "defect-recall") > score(all_defect, "defect-recall")


def test_a_lucky_macro_f1_does_not_replace_the_probe() -> None:
    probe = _row(0, 0.95, loss=0.20)
    assert best([probe, _row(1, 0.99, loss=0.21)], "macro-f1").epoch == 0
    assert best([probe, _row(1, 0.94, loss=0.10)], "macro-f1").epoch == 0, "nor does a better loss with a worse F1"
    assert best([probe, _row(1, 0.95, loss=0.19)], "macro-f1").epoch == 1
    assert best([probe, _row(1, 0.95, loss=0.20)], "macro-f1").epoch == 0, "a tie is no gain"


def test_of_epochs_better_than_the_probe_the_surest_is_kept_not_the_luckiest() -> None:
    history = [_row(0, 0.90, loss=0.5), _row(1, 0.97, loss=0.4), _row(2, 0.93, loss=0.2), _row(3, 0.95, loss=0.3)]
    assert best(history, "macro-f1").epoch == 2


def test_overconfidence_that_a_temperature_undoes_counts_for_nothing() -> None:
    probe, tuned = _row(0, 0.90, loss=0.3, calibrated=0.29), _row(1, 0.92, loss=0.5, calibrated=0.2)
    assert best([probe, tuned], "macro-f1").epoch == 1


def test_what_was_asked_for_is_a_gate_after_a_probe() -> None:
    history = [_row(0, 0.9, loss=0.5, accuracy=0.95), _row(1, 0.95, loss=0.2, accuracy=0.9)]
    assert best(history, "macro-f1").epoch == 1 and best(history, "accuracy").epoch == 0


def test_patience_counts_from_the_last_gain() -> None:
    history = [_row(1, 0.5), _row(2, 0.7), _row(3, 0.6), _row(4, 0.7)]
    assert gains(history, "macro-f1") == [True, True, False, False]
    assert waited(history, "macro-f1") == 2 and waited([], "macro-f1") == 0
    with pytest.raises(ValueError, match="no epoch"):
        best([], "macro-f1")
