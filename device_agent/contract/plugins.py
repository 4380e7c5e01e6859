"""Seams: names that lead to classes, nothing imported until one is chosen."""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from typing import Any

from device_agent.contract.errors import BadInput


class Seam:
    """The choices of one seam: built-in ones and those that installed packages add under `lineside.<name>`.

    >>> Seam("clocks", {"wall": "time:time"}).names()
    ['wall']
    """

    def __init__(self, name: str, builtin: dict[str, str]) -> None:
        self.name = name
        self._builtin = builtin

    def _points(self) -> dict[str, EntryPoint]:
        group = f"lineside.{self.name}"
        found = {point.name: point for point in entry_points(group=group)}
        found.update({name: EntryPoint(name, value, group) for name, value in self._builtin.items()})
        return found

    def names(self) -> list[str]:
        """Every name that can be chosen, in alphabetical order; a built-in name cannot be taken over."""
        return sorted(self._points())

    def load(self, name: str) -> Any:
        """The object behind `name`, imported now.

        Raises:
            BadInput: there is no such name; the sentence lists those that exist.
        """
        points = self._points()
        if name not in points:
            raise BadInput(f"{self.name}: no {name!r}; known are {', '.join(sorted(points))}")
        return points[name].load()
