"""The rounds of a pruning: score, cut, fine-tune; and the control, which is fine-tuned alike and not cut."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from device_agent.contract.errors import BadInput
from toolkit.compression.budget import best_channels, floors_of
from toolkit.compression.channels import Channels, Widths, tie
from toolkit.compression.cost import Bill, Cost
from toolkit.compression.graph import read_graph
from toolkit.compression.outcome import Cut, Request
from toolkit.compression.selection import Stopwatch, select
from toolkit.compression.stages import Made, Stages
from toolkit.compression.statistics import adopt, settle, thaw
from toolkit.compression.surgery import cut
from toolkit.compression.tuning import Ground, score, shown, tune
from toolkit.training.checkpoint import Epoch

_COUNTED = {"macs": "macs", "size": "parameters"}


class Rounds(NamedTuple):
    """What the rounds of a pruning need: the parent's model and channels, and images to calibrate an int8 file with,
    where latency is the budget."""

    request: Request
    ground: Ground
    stages: Stages
    parent: Any
    channels: Channels
    calibration: NDArray[np.uint8]

    def run(self) -> Made:
        """The pruned model and the lines of history of all its epochs; the parent itself where nothing is to be cut.

        Raises:
            BadInput: the budget cannot be met: found before the first epoch where it is one of MACs or size.
        """
        self._reachable()
        model, history = self.parent, list[Epoch]()
        stopwatch: list[Stopwatch] = []
        for number, epochs in enumerate(self.request.all_epochs, 1):
            self.ground.watch.stage(f"round {number} of {self.request.rounds}: scoring")
            model, _ = self.stages.reach(f"cut-{number}", self._cutting(model, number, stopwatch))
            model, lines = self.stages.reach(f"tuned-{number}", self._tuning(model, epochs))
            start = history[-1].epoch if history else 0
            history += [msgspec.structs.replace(line, epoch=start + line.epoch) for line in lines]
        return model, history

    def control(self) -> Any:
        """The parent after the same epochs."""
        model = self.parent
        for number, epochs in enumerate(self.request.all_epochs, 1):
            self.ground.watch.stage(f"control, round {number} of {self.request.rounds}")
            if number == 1:
                model, _ = self.stages.reach("control-0", lambda _: (self._ready(), []))
            model, _ = self.stages.reach(f"control-{number}", self._tuning(model, epochs))
        return model

    def _ready(self) -> Any:
        """A copy of the parent that learns as a whole, with the statistics of its own images."""
        model = cut(self.parent, self.channels, {})
        thaw(model)
        adopt(model, shown(self.ground), self._spec)
        return model

    def _cutting(self, model: Any, number: int, stopwatch: list[Stopwatch]) -> Callable[[Path], Made]:
        def make(_: Path) -> Made:
            larger = self._ready() if number == 1 else model
            channels, request = tie(read_graph(larger)), self.request
            scores = score(larger, channels, self.ground, request.score)
            chosen = self.channels.cuttable(request.groups)
            if request.budget == "latency" and not stopwatch:
                folder = self.stages.folder / "latency"
                stopwatch.append(Stopwatch(self.parent, request.artifact, self._spec, self.calibration, folder))
            floors, limit = floors_of(chosen, request.floor, request.align), self._limit(number)
            asked = {group.name: scores[group.name] for group in chosen}
            widths = select(larger, channels, asked, request, floors, limit, *stopwatch)
            smaller = cut(larger, channels, best_channels(asked, widths))
            settle(smaller, shown(self.ground), self._spec)
            return smaller, []

        return make

    def _tuning(self, model: Any, epochs: int) -> Callable[[Path], Made]:
        def make(state: Path) -> Made:
            if not epochs:
                return model, []
            recipe = msgspec.structs.replace(self.ground.recipe, epochs=epochs)
            return model, tune(model, self.ground._replace(recipe=recipe), state)

        return make

    def _reachable(self) -> None:
        request = self.request
        if request.budget == "latency":
            return
        floors = floors_of(self.channels.cuttable(request.groups), request.floor, request.align)
        whole, least = (getattr(each, _COUNTED[request.budget]) for each in self._bills({}, floors))
        if least > request.share * whole:
            raise BadInput(
                f"--{request.budget} {request.share:g} cannot be met: {least / whole:.3f} is the least that --floor "
                f"{request.floor:g}, --align {request.align} and --groups {','.join(request.groups)} leave"
            )

    def _bills(self, *cuts: Widths) -> Iterator[Cost]:
        return (Bill(self.channels).cost({**self.channels.widths, **each}) for each in cuts)

    def _limit(self, number: int) -> float:
        """What is left after a round: each takes the same share of what the one before left."""
        (whole,) = self._bills({})
        of = 1.0 if self.request.budget == "latency" else float(getattr(whole, _COUNTED[self.request.budget]))
        return float(of * self.request.share ** (number / self.request.rounds))

    @property
    def _spec(self) -> Any:
        return self.ground.recipe.architecture.input_spec()


def cuts_between(before: Channels, after: Channels) -> list[Cut]:
    """What became of each group that could be cut."""
    return [
        Cut(group=name, kind=group.kind, before=group.width, after=after.groups[name].width, layers=list(group.makers))
        for name, group in before.groups.items()
        if group.kind != "fixed"
    ]
