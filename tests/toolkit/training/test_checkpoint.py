"""A checkpoint comes back as it was, and is replaced in one step or not at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from device_agent.contract.errors import BadInput
from toolkit.training.checkpoint import PARTS, Checkpoint, Epoch, load_checkpoint, pack, save_checkpoint, unpack


def _row(epoch: int, f1: float, loss: float = 1.0) -> Epoch:
    return Epoch(epoch=epoch, loss=1.0, val_loss=loss, val_accuracy=f1, val_macro_f1=f1, rate=0.1, seconds=1.0)


def _state(*rows: Epoch) -> Checkpoint:
    rng = np.random.default_rng(0)
    weights = [rng.normal(size=shape).astype(np.float32) for shape in [(3, 3, 2), (2,), ()]]
    many = [np.full(2, place, np.float32) for place in range(120)]
    notes = {"scale": [32768.0, 3], "warnings": ["epoch 1: dead: block_1"]}
    return Checkpoint(
        history=list(rows), weights=weights, optimizer=many, best=weights[::-1], average=weights[:2], notes=notes
    )


def test_round_trip(tmp_path: Path) -> None:
    state = _state(_row(1, 0.5), _row(2, 0.7))
    save_checkpoint(tmp_path / "checkpoint" / "state.npz", state)
    found = load_checkpoint(tmp_path / "checkpoint" / "state.npz")
    assert found is not None and found.history == state.history and found.notes == state.notes
    assert len(found.average) == 2 and not found.extra
    for part in PARTS:
        pairs = zip(getattr(found, part), getattr(state, part), strict=True)
        assert all(np.array_equal(one, two) and one.dtype == two.dtype for one, two in pairs)


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


def test_bytes_for_another_machine_are_the_same_state(tmp_path: Path) -> None:
    state = _state(_row(1, 0.5))
    found = unpack(pack(state), tmp_path)
    assert found.history == state.history and found.notes == state.notes
    assert all(np.array_equal(one, two) for one, two in zip(found.optimizer, state.optimizer, strict=True))
    with pytest.raises(BadInput, match="damaged"):
        unpack(pack(state)[:100], tmp_path)
