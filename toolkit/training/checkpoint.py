"""The state of a training after a whole epoch, in one file that is replaced in one step."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from device_agent.contract.errors import BadInput
from device_agent.contract.files import replacing

Arrays = list[NDArray[np.generic]]
PARTS = ("weights", "optimizer", "best", "average", "extra", "start")


class Epoch(msgspec.Struct, frozen=True, kw_only=True):
    """One line of history.csv. Losses are balanced over the classes; `val_` figures are measured on the validation
    images, the calibrated loss at its own best temperature; `defect` figures take all good and all defect classes
    together and need both; `rate` is the learning rate at the end, `gradient_norm` the median over the steps, before
    clipping; epoch 0 is the probe. `blend` under 1 is a point between the probe (0) and this epoch (1)."""

    epoch: int
    loss: float
    val_loss: float
    val_accuracy: float
    val_macro_f1: float
    rate: float
    seconds: float
    val_balanced_accuracy: float = 0.0
    val_calibrated_loss: float | None = None
    val_defect_recall: float | None = None
    val_defect_balanced_accuracy: float | None = None
    gradient_norm: float | None = None
    blend: float = 1.0


def place(epoch: int, blend: float) -> str:
    """Where weights lie, in words.

    >>> place(0, 1.0), place(8, 1.0), place(8, 0.75)
    ('the probe', 'epoch 8', '75 % of the way from the probe to epoch 8')
    """
    if not epoch:
        return "the probe"
    return f"epoch {epoch}" if blend == 1 else f"{100 * blend:g} % of the way from the probe to epoch {epoch}"


class Checkpoint(msgspec.Struct, kw_only=True):
    """Weights and optimizer variables after the last epoch of `history`, the weights of the best one, the running
    average of the weights (`average`), what a supplier of extra targets learns (`extra`) and the weights of the probe
    (`start`), where there are any.
    `notes` are plain numbers and names: the scale of the loss, what the probe saw, the layers' health."""

    history: list[Epoch]
    weights: Arrays
    optimizer: Arrays
    best: Arrays
    average: Arrays = []
    extra: Arrays = []
    start: Arrays = []
    notes: dict[str, Any] = {}

    @property
    def next_epoch(self) -> int:
        """Number of the first epoch that has not been done; epochs count from 1."""
        return self.history[-1].epoch + 1 if self.history else 1


def save_checkpoint(path: Path, state: Checkpoint) -> None:
    """Write one .npz file, wholly or not at all.

    Raises:
        NotWritable: the disk is full, read-only or forbids it.
    """
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **_arrays(state))  # type: ignore[arg-type]


def load_checkpoint(path: Path) -> Checkpoint | None:
    """The state in a file, None where there is none.

    Raises:
        BadInput: the file is damaged.
    """
    return _read(path, path) if path.is_file() else None


def pack(state: Checkpoint) -> bytes:
    """The state as the bytes of its file."""
    out = io.BytesIO()
    np.savez(out, **_arrays(state))  # type: ignore[arg-type]
    return out.getvalue()


def unpack(content: bytes, path: Path) -> Checkpoint:
    """The state in the bytes of a file, which errors name as `path`.

    Raises:
        BadInput: the content is damaged.
    """
    return _read(io.BytesIO(content), path)


def _arrays(state: Checkpoint) -> dict[str, NDArray[np.generic]]:
    arrays = {f"{part}{place:05d}": value for part in PARTS for place, value in enumerate(getattr(state, part))}
    documents = {"history": state.history, "notes": state.notes}
    return arrays | {name: np.frombuffer(msgspec.json.encode(each), np.uint8) for name, each in documents.items()}


def _read(source: Path | io.BytesIO, path: Path) -> Checkpoint:
    try:
        with np.load(source) as file:
            names = sorted(file.files)
            parts = {part: [file[name] for name in names if name.startswith(part)] for part in PARTS}
            history = msgspec.json.decode(file["history"].tobytes(), type=list[Epoch])
            notes = msgspec.json.decode(file["notes"].tobytes(), type=dict[str, Any]) if "notes" in names else {}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise BadInput(f"{path}: the checkpoint is damaged; start over with --fresh") from error
    return Checkpoint(history=history, notes=notes, **parts)
