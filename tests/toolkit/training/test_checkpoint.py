"""A checkpoint comes back as it was, and is replaced in one step or not at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from device_agent.contract.errors import BadInput
from toolkit.training.checkpoint import Checkpoint, Epoch, load_checkpoint, save_checkpoint


def _row(epoch: int, f1: float, loss: float = 1.0) -> Epoch:
    return Epoch(epoch=epoch, loss=1.0, val_loss=loss, val_accuracy=f1, val_macro_f1=f1, rate=0.1, seconds=1.0)


def _state(*rows: Epoch) -> Checkpoint:
    rng = np.random.default_rng(0)
    weights = [rng.normal(size=shape).astype(np.float32) for shape in [(3, 3, 2), (2,), ()]]
    many = [np.full(2, place, np.float32) for place in range(120)]
    return Checkpoint(history=list(rows), weights=weights, optimizer=many, best=weights[::-1])


def test_round_trip(tmp_path: Path) -> None:
    state = _state(_row(1, 0.5), _row(2, 0.7))
    save_checkpoint(tmp_path / "checkpoint" / "state.npz", state)
    found = load_checkpoint(tmp_path / "checkpoint" / "state.npz")
    assert found is not None and found.history == state.history
    for part in ("weights", "optimizer", "best"):
        pairs = zip(getattr(found, part), getattr(state, part), strict=True)
        assert all(np.array_equal(one, two) and one.dtype == two.dtype for one, two in pairs)


def test_best_epoch_is_the_first_of_equals_and_loss_breaks_ties() -> None:
    assert _state(_row(1, 0.8), _row(2, 0.8)).best_epoch.epoch == 1
    assert _state(_row(0, 0.8), _row(1, 0.8, loss=0.5), _row(2, 0.7, loss=0.1)).best_epoch.epoch == 1


def test_next_epoch() -> None:
    assert _state().next_epoch == 1
    assert _state(_row(0, 0.5)).next_epoch == 1, "after the probe"
    assert _state(_row(1, 0.5), _row(2, 0.5)).next_epoch == 3


def test_a_failed_save_keeps_the_last_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "state.npz"
    save_checkpoint(path, _state(_row(1, 0.5)))

    def fail(file: object, **arrays: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "savez", fail)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(path, _state(_row(1, 0.5), _row(2, 0.6)))
    found = load_checkpoint(path)
    assert found is not None and len(found.history) == 1
    assert [entry.name for entry in tmp_path.iterdir()] == ["state.npz"]


def test_none_there(tmp_path: Path) -> None:
    assert load_checkpoint(tmp_path / "state.npz") is None


@pytest.mark.parametrize("keep", [0, 40, 2000])
def test_damaged(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "state.npz"
    save_checkpoint(path, _state(_row(1, 0.5)))
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(BadInput, match="damaged; start over with --fresh"):
        load_checkpoint(path)
