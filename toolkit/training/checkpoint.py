"""The state of a training after a whole epoch, in one file that is replaced in one step."""

from __future__ import annotations

import zipfile
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from device_agent.contract.errors import BadInput
from device_agent.contract.files import replacing

Arrays = list[NDArray[np.generic]]


class Epoch(msgspec.Struct, frozen=True, kw_only=True):
    """One line of history.csv. Losses are balanced over the classes; `val_` figures are measured on the validation
    images; `rate` is the learning rate at the end; epoch 0 is the probe."""

    epoch: int
    loss: float
    val_loss: float
    val_accuracy: float
    val_macro_f1: float
    rate: float
    seconds: float


class Checkpoint(msgspec.Struct, kw_only=True):
    """Weights and optimizer variables after the last epoch of `history`, and the weights of the best one."""

    history: list[Epoch]
    weights: Arrays
    optimizer: Arrays
    best: Arrays

    @property
    def best_epoch(self) -> Epoch:
        """The epoch with the highest macro-F1 on validation, the lower loss breaking ties, the earlier one next."""
        return max(self.history, key=lambda row: (row.val_macro_f1, -row.val_loss))

    @property
    def next_epoch(self) -> int:
        """Number of the first epoch that has not been done; epochs count from 1."""
        return self.history[-1].epoch + 1 if self.history else 1


def save_checkpoint(path: Path, state: Checkpoint) -> None:
    """Write one .npz file, wholly or not at all."""
    arrays: dict[str, NDArray[np.generic]] = {
        f"{part}{place:04d}": value
        for part in ("weights", "optimizer", "best")
        for place, value in enumerate(getattr(state, part))
    }
    history = np.frombuffer(msgspec.json.encode(state.history), np.uint8)
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez(file, history=history, **arrays)  # type: ignore[arg-type]


def load_checkpoint(path: Path) -> Checkpoint | None:
    """The state in a file, None where there is none.

    Raises:
        BadInput: the file is damaged.
    """
    if not path.is_file():
        return None
    try:
        with np.load(path) as file:
            parts = {
                part: [file[name] for name in sorted(file.files) if name.startswith(part)]
                for part in ("weights", "optimizer", "best")
            }
            history = msgspec.json.decode(file["history"].tobytes(), type=list[Epoch])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise BadInput(f"{path}: the checkpoint is damaged; start over with --fresh") from error
    return Checkpoint(history=history, **parts)
