"""A route that keeps what it takes: for tests and for trying out a file of routes."""

from __future__ import annotations

from fleet.routes import Notice, NotTaken
from fleet.routes.settings import Wiring


class MemoryRoute:
    """Keeps notices in `taken`; while `failing` is set it takes none and says so."""

    def __init__(self, wiring: Wiring) -> None:
        self.name = wiring.settings.name
        self.taken: list[Notice] = []
        self.failing: NotTaken | None = None

    def take(self, notice: Notice) -> None:
        """Keep it.

        Raises:
            NotTaken: as told to.
        """
        if self.failing is not None:
            raise self.failing
        self.taken.append(notice)

    def close(self) -> None:
        """Nothing to hang up."""
