"""Which layers share channels: a channel is cut everywhere or nowhere.

A tensor's channels are those of the tensor before it, unless a convolution or a dense layer makes new ones; an addition
ties its summands. So the residual stream of a stage is one group, and so are an expanded tensor, its depthwise
convolution, its normalisations and the gate of its squeeze-and-excite.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple, get_args

from device_agent.contract.errors import BadInput
from toolkit.compression.graph import SHAPING, Graph, Node

Kind = Literal["expansion", "residual", "squeeze-excite", "fixed"]
KINDS = tuple(kind for kind in get_args(Kind) if kind != "fixed")
Widths = Mapping[str, int]


class Group(NamedTuple):
    """Channels that stand and fall together, named after the first layer that makes them.

    `makers` are the convolutions whose filters they are, `takers` those (and dense layers) that read them, `along` the
    layers between. `kind`: "residual" has tensors that are added up, or is not activated; "squeeze-excite" lies inside
    a gate; "fixed" is the image, the logits, or what a layer takes that cannot be cut; the rest is "expansion".
    """

    name: str
    kind: Kind
    width: int
    makers: tuple[str, ...]
    takers: tuple[str, ...]
    along: tuple[str, ...]


class Channels(NamedTuple):
    """The groups of a network by name, and the names of the groups that each node takes and makes."""

    nodes: list[Node]
    groups: dict[str, Group]
    taken: dict[str, str]
    made: dict[str, str]

    @property
    def widths(self) -> dict[str, int]:
        """Channels of each group."""
        return {name: group.width for name, group in self.groups.items()}

    def cuttable(self, kinds: Iterable[str] = KINDS) -> list[Group]:
        """The groups of these kinds, in the order of the network.

        Raises:
            BadInput: an unknown kind, or no such group.
        """
        wanted = list(kinds)
        if unknown := [kind for kind in wanted if kind not in KINDS]:
            raise BadInput(f"no kind of channels {unknown[0]!r}; known are {', '.join(KINDS)}")
        found = [group for group in self.groups.values() if group.kind in wanted]
        if not found:
            raise BadInput(f"the network has no channels of kind {' or '.join(wanted)} that could be cut")
        return found


def tie(graph: Graph) -> Channels:
    """The groups of channels of a network.

    >>> nodes = [Node("image", "InputLayer", "source", (), 0, 3), Node("conv", "Conv2D", "mix", (0,), 1, 16),
    ...          Node("relu", "ReLU", "along", (1,), 2, 16, acts=True), Node("logits", "Dense", "mix", (2,), 3, 4)]
    >>> [(group.name, group.kind, group.takers) for group in tie(Graph(nodes, 3)).groups.values()]
    [('image', 'fixed', ('conv',)), ('conv', 'expansion', ('logits',)), ('logits', 'fixed', ())]
    """
    root = list(range(1 + max(node.output for node in graph.nodes)))

    def find(tensor: int) -> int:
        while root[tensor] != tensor:
            tensor = root[tensor]
        return tensor

    for node in graph.nodes:
        if node.role == "along":
            for tensor in node.inputs:
                low, high = sorted((find(tensor), find(node.output)))
                root[high] = low
    members: dict[int, list[Node]] = {}
    for node in graph.nodes:
        members.setdefault(find(node.output), []).append(node)
    named = {place: _first(each) for place, each in members.items()}
    taken = {node.name: named[find(node.inputs[0])] for node in graph.nodes if node.inputs}
    made = {node.name: named[find(node.output)] for node in graph.nodes}
    kept = {named[find(graph.output)]} | {
        name
        for node in graph.nodes
        for name in ((made[node.name],) if node.role == "source" else (made[node.name], taken[node.name]))
        if node.role in ("source", "fixed")
    }
    shaped = {node.output for node in graph.nodes if node.type in SHAPING}
    groups = [_group(named[place], each, taken, graph.nodes, kept, shaped) for place, each in members.items()]
    return Channels(graph.nodes, {group.name: group for group in groups}, taken, made)


def _first(members: list[Node]) -> str:
    return next((node for node in members if node.role != "along"), members[0]).name


def _group(
    name: str, members: list[Node], taken: Mapping[str, str], nodes: list[Node], kept: set[str], shaped: set[int]
) -> Group:
    makers = [node for node in members if node.role == "mix"]
    takers = [node.name for node in nodes if node.role in ("mix", "fixed") and taken[node.name] == name]
    kind: Kind = "expansion"
    if name in kept:
        kind = "fixed"
    elif any(node.joins for node in members) or not any(node.acts for node in members):
        kind = "residual"
    elif all(node.type == "Conv2D" and node.inputs[0] in shaped for node in makers):
        kind = "squeeze-excite"
    along = tuple(node.name for node in members if node.role == "along")
    return Group(name, kind, members[0].width, tuple(node.name for node in makers), tuple(takers), along)
