"""What a pruning was asked for, and pruning.json: what came of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import msgspec

from device_agent.contract.codec import read_document_file
from device_agent.contract.errors import BadInput
from device_agent.contract.files import write_whole
from toolkit.compression.channels import KINDS
from toolkit.compression.scores import Method
from toolkit.evaluation.paired import Difference

SCHEMA = "1.0"
FILE = "pruning.json"
Measure = Literal["macs", "size", "latency"]
RANGES: dict[str, tuple[float, float]] = {
    "rounds": (1, 100),
    "epochs": (0, 1000),
    "last_epochs": (0, 1000),
    "lr": (1e-7, 1.0),
    "align": (1, 64),
    "floor": (0, 1),
    "temperature": (0.1, 100),
    "teacher_weight": (0, 1),
}


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """Everything but the parent and its images that decides what a pruning gives.

    `share` is what is to be left of the parent's MACs, size (parameters) or latency, the last on `artifact`. In each of
    `rounds` the channels of the kinds `groups` with the lowest `score` go, down to a multiple of `align`
    and never under the share `floor` of a layer, and then come
    `epochs` of fine-tuning, after the last `last_epochs`. `teachers` are digests of model files.
    """

    budget: Measure = "macs"
    share: float
    artifact: str = ""
    score: Method = "taylor"
    groups: list[str] = msgspec.field(default_factory=lambda: list(KINDS))
    align: int = 8
    floor: float = 0.3
    rounds: int = 3
    epochs: int = 2
    last_epochs: int = 10
    lr: float = 1e-3
    seed: int = 0
    teachers: list[str] = []
    temperature: float = 4.0
    teacher_weight: float = 0.9

    def check(self) -> None:
        """Refuse what cannot be meant.

        Raises:
            BadInput: a number out of its range, a group that is not known.
        """
        if not 0 < self.share <= 1:
            raise BadInput(f"--{self.budget} is the share that is to be left, over 0 to 1, got {self.share:g}")
        for name, (low, high) in RANGES.items():
            if not low <= getattr(self, name) <= high:
                raise BadInput(f"{name.replace('_', '-')} must be {low:g} to {high:g}, got {getattr(self, name):g}")
        if unknown := [kind for kind in self.groups if kind not in KINDS]:
            raise BadInput(f"groups: no {unknown[0]!r}; known are {', '.join(KINDS)}")

    @property
    def all_epochs(self) -> list[int]:
        """Epochs after each round; none where nothing is cut."""
        return [] if self.share == 1 else [self.epochs] * (self.rounds - 1) + [self.last_epochs]


class Cut(msgspec.Struct, frozen=True, kw_only=True):
    """Channels of a group before and after; `layers` are the convolutions that make them."""

    group: str
    kind: str
    before: int
    after: int
    layers: list[str]


class Score(msgspec.Struct, frozen=True):
    """Macro-F1 on the validation images by Keras, with its 95 % interval over groups."""

    macro_f1: float
    low: float
    high: float


class Timing(msgspec.Struct, frozen=True, kw_only=True):
    """p50 in ms of parent and pruned model as `artifact`, measured in turns on this machine: the least of each one's
    turns. `slower` says whether the pruned one is over its parent by more than what turns differ by."""

    artifact: str
    device: str
    runtime_version: str
    threads: int
    provenance: Literal["measured"] = "measured"
    parent_ms: float
    pruned_ms: float
    turns: int
    slower: bool

    @property
    def factor(self) -> float:
        """How many times as fast as its parent."""
        return self.parent_ms / self.pruned_ms


class Pruning(msgspec.Struct, frozen=True, kw_only=True):
    """pruning.json. Pairs are (parent, pruned). The control is the parent after the same epochs of the same
    fine-tuning; `gain` is pruned less parent, `gain_over_control` pruned less control, on the same images."""

    schema: str = SCHEMA
    run: str
    parent: str
    parent_sha256: str
    request: Request
    cuts: list[Cut]
    macs: tuple[int, int]
    parameters: tuple[int, int]
    measured_on: str = "validation"
    images: int
    parent_score: Score
    pruned_score: Score
    control_score: Score
    control_epochs: int
    gain: Difference
    gain_over_control: Difference
    timings: list[Timing]
    verdict: Literal["kept", "refused"] = "kept"
    seconds: float = 0.0
    already_pruned: bool = False


def write_pruning(folder: Path, pruning: Pruning) -> None:
    """Write pruning.json wholly or not at all."""
    write_whole(folder / FILE, msgspec.json.format(msgspec.json.encode(pruning), indent=2) + b"\n")


def read_pruning(folder: Path) -> Pruning | None:
    """pruning.json of a run, None where there is none.

    Raises:
        BadInput: it is damaged.
    """
    return read_document_file(folder / FILE, Pruning, reads=SCHEMA)


def changes(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What differs between two requests, one phrase each.

    >>> changes({"share": 0.5, "align": 8}, {"share": 0.2, "align": 8})
    ['share was 0.5 and is 0.2']
    """
    return [f"{name} was {before.get(name)} and is {value}" for name, value in now.items() if before.get(name) != value]
