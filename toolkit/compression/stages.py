"""The stages of a pruning, kept in a folder: what is there is not done again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from device_agent.contract.errors import BadInput
from device_agent.contract.files import sweep, write_whole
from toolkit.compression.outcome import changes
from toolkit.models.files import load_model, save_model
from toolkit.training.checkpoint import Epoch

PLAN = "plan.json"
Made = tuple[Any, list[Epoch]]


class Stages:
    """Models by the name of their stage, each with the lines of history that led to it; the folder belongs to one
    plan.

    Raises:
        BadInput: the folder holds the stages of another plan.
        NotWritable: the disk is full, read-only or forbids it.
    """

    def __init__(self, folder: Path, plan: dict[str, Any], family: str) -> None:
        self.folder, self._family = folder, family
        path = folder / PLAN
        if path.is_file():
            try:
                old = msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
            except msgspec.MsgspecError:
                raise BadInput(f"{path}: is damaged; start over with --fresh") from None
            if differ := changes(old, plan):
                raise BadInput(
                    f"{folder.parent}: holds another pruning that is not finished: {'; '.join(differ)}; name another "
                    "folder, or --fresh"
                )
            sweep(folder)
        else:
            write_whole(path, msgspec.json.encode(plan))

    def reach(self, name: str, make: Callable[[Path], Made]) -> Made:
        """The model of a stage and its history, made now if it is not there; `make` gets a path for a state of its own,
        which goes when the stage is reached."""
        path, lines, state = (self.folder / f"{name}.{suffix}" for suffix in ("keras", "json", "npz"))
        if not path.is_file():
            model, history = make(state)
            write_whole(lines, msgspec.json.encode(history))
            save_model(model, path)
            state.unlink(missing_ok=True)
            return model, history
        return load_model(path, self._family), msgspec.json.decode(lines.read_bytes(), type=list[Epoch])
