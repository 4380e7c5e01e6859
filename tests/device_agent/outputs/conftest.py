"""Verdicts, events and outputs that only remember."""

from __future__ import annotations

from typing import Any

import pytest

from device_agent.contract.review import Verdict


class Events(list[tuple[str, str]]):
    """Events as they were told."""

    def __call__(self, kind: str, text: str) -> None:
        assert len(kind) <= 32
        self.append((kind, text))

    @property
    def kinds(self) -> list[str]:
        return [kind for kind, _ in self]


class Remembered:
    """A LineOutput and a Transport that remember; `raises` is raised by `send`."""

    name = "remembered"

    def __init__(self) -> None:
        self.verdicts: list[Verdict] = []
        self.raises: Exception | None = None
        self.closed = 0

    def put(self, verdict: Verdict) -> None:
        self.verdicts.append(verdict)

    def send(self, verdict: Verdict) -> None:
        if self.raises is not None:
            raise self.raises
        self.verdicts.append(verdict)

    def close(self, timeout_s: float = 0.0) -> None:
        self.closed += 1

    @property
    def frames(self) -> list[int]:
        return [verdict.frame for verdict in self.verdicts]


@pytest.fixture
def events() -> Events:
    return Events()


@pytest.fixture
def remembered() -> Remembered:
    return Remembered()


@pytest.fixture
def verdict() -> Any:
    """`verdict(frame, decision)`: the model's answer."""

    def make(frame: int, decision: str = "pass") -> Verdict:
        return Verdict(frame, "good", "good", 0.9, 2.0, 0, decision=decision)

    return make
