"""What a network costs as a function of how many channels its groups have."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from toolkit.compression.channels import Channels, Widths


class Cost(NamedTuple):
    """Multiply-accumulates of one image in convolutions and dense layers, and parameters (moving statistics too)."""

    macs: int
    parameters: int


class Bill:
    """The cost of one network at any widths.

    >>> from toolkit.compression.channels import tie
    >>> from toolkit.compression.graph import Graph, Node
    >>> nodes = [Node("image", "InputLayer", "source", (), 0, 3),
    ...          Node("conv", "Conv2D", "mix", (0,), 1, 16, work=9 * 64, weights=9),
    ...          Node("norm", "BatchNormalization", "along", (1,), 2, 16, weights=4)]
    >>> bill = Bill(tie(Graph(nodes, 2)))
    >>> bill.cost({"image": 3, "conv": 8})  # 9 * 64 * 3 * 8; 9 * 3 * 8 + 4 * 8
    Cost(macs=13824, parameters=248)
    """

    def __init__(self, channels: Channels) -> None:
        self._order = list(channels.groups)
        place = {name: at for at, name in enumerate(self._order)}
        mixes = [node for node in channels.nodes if node.role == "mix"]
        others = [node for node in channels.nodes if node.role == "along"]
        self._taken = np.array([place[channels.taken[node.name]] for node in mixes], np.int64)
        self._made = np.array([place[channels.made[node.name]] for node in mixes], np.int64)
        self._pairs = np.array([(node.work, node.weights) for node in mixes], np.int64).reshape(-1, 2)
        self._singles = np.zeros((len(self._order), 2), np.int64)
        for node in others:
            self._singles[place[channels.made[node.name]]] += (node.work, node.weights)
        for node in mixes:
            self._singles[place[channels.made[node.name]], 1] += node.biases

        self._fixed = sum(node.weights for node in channels.nodes if node.role == "fixed")

    def cost(self, widths: Widths) -> Cost:
        """At these channels of each group."""
        wide = np.array([widths[name] for name in self._order], np.int64)
        macs, parameters = (wide[self._taken] * wide[self._made]) @ self._pairs + wide @ self._singles
        return Cost(int(macs), int(parameters) + self._fixed)
