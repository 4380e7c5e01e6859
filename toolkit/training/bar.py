"""The progress of a training on stderr: a bar for the epochs, with loss, macro-F1 and the time that is left."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from toolkit.training.checkpoint import Epoch, place


class TrainingBar:
    """A Watch. On a terminal it draws a bar; elsewhere it writes one line per epoch."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        self._live = self._console.is_terminal
        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[note]}"))
        self._bar = Progress(
            *columns, TimeRemainingColumn(), console=self._console, transient=True, disable=not self._live
        )
        self._task = self._bar.add_task("starting", total=None, note="")

    def __enter__(self) -> TrainingBar:
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._bar.stop()

    def stage(self, text: str) -> None:
        """Name what begins."""
        self._bar.update(self._task, description=text)

    def step(self, epoch: int, done: int, steps: int, epochs: int) -> None:
        """Move the bar by a batch."""
        self._bar.update(
            self._task,
            description=f"epoch {epoch} of {epochs}",
            total=epochs * steps,
            completed=(epoch - 1) * steps + done,
        )

    def epoch(self, row: Epoch, epochs: int) -> None:
        """Note the figures of an epoch."""
        note = f"loss {row.loss:.3f}  val loss {row.val_loss:.3f}  val macro-F1 {row.val_macro_f1:.4f}"
        self._bar.update(self._task, note=note)
        if not self._live:
            name = f"epoch {row.epoch} of {epochs}" if row.epoch and row.blend == 1 else place(row.epoch, row.blend)
            self._console.print(f"{name}: {note}  {row.seconds:.1f} s", highlight=False, soft_wrap=True)

    def warn(self, text: str) -> None:
        """One line above the bar."""
        self._console.print(f"warning: {text}", highlight=False, soft_wrap=True, markup=False)
