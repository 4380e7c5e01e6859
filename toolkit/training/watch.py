"""Who sees a training go on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from toolkit.training.checkpoint import Epoch


class Watch(Protocol):
    """Who wants to see a training go on."""

    def stage(self, text: str) -> None:
        """Something begins: reading, probe, training."""

    def step(self, epoch: int, done: int, steps: int, epochs: int) -> None:
        """Batch `done` of `steps` of an epoch is done."""

    def epoch(self, row: Epoch, epochs: int) -> None:
        """An epoch is done and kept."""

    def warn(self, text: str) -> None:
        """Something is not as it should be; the training goes on."""


class Unwatched:
    """A Watch that looks away."""

    def stage(self, text: str) -> None:
        """Nothing."""

    def step(self, epoch: int, done: int, steps: int, epochs: int) -> None:
        """Nothing."""

    def epoch(self, row: Epoch, epochs: int) -> None:
        """Nothing."""

    def warn(self, text: str) -> None:
        """Nothing."""


class Watches:
    """Several that watch, in turn."""

    def __init__(self, watches: Sequence[Watch]) -> None:
        self._watches = watches

    def stage(self, text: str) -> None:
        """Tell all."""
        for watch in self._watches:
            watch.stage(text)

    def step(self, epoch: int, done: int, steps: int, epochs: int) -> None:
        """Tell all."""
        for watch in self._watches:
            watch.step(epoch, done, steps, epochs)

    def epoch(self, row: Epoch, epochs: int) -> None:
        """Tell all."""
        for watch in self._watches:
            watch.epoch(row, epochs)

    def warn(self, text: str) -> None:
        """Tell all."""
        for watch in self._watches:
            watch.warn(text)
