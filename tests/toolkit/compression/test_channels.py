"""Groups of channels of a small graph made by hand: two residual blocks, the second with a gate, then a head."""

from __future__ import annotations

import pytest

from device_agent.contract.errors import BadInput
from toolkit.compression.channels import Channels, tie
from toolkit.compression.cost import Bill, Cost
from toolkit.compression.graph import Graph, Node


def graph() -> Graph:
    """image - stem - expand - depthwise - squeeze, excite - gated - project + stem - pooled - logits."""
    nodes = [
        Node("image", "InputLayer", "source", (), 0, 3),
        Node("stem", "Conv2D", "mix", (0,), 1, 8, work=9 * 16, weights=9),
        Node("expand", "Conv2D", "mix", (1,), 2, 32, work=16, weights=1),
        Node("bend", "ReLU", "along", (2,), 3, 32, acts=True),
        Node("depthwise", "DepthwiseConv2D", "along", (3,), 4, 32, work=9 * 16, weights=9),
        Node("pool", "GlobalAveragePooling2D", "along", (4,), 5, 32),
        Node("squeeze", "Conv2D", "mix", (5,), 6, 16, work=1, weights=1, biases=1),
        Node("inner", "ReLU", "along", (6,), 7, 16, acts=True),
        Node("excite", "Conv2D", "mix", (7,), 8, 32, work=1, weights=1, biases=1),
        Node("gate", "Multiply", "along", (4, 8), 9, 32),
        Node("project", "Conv2D", "mix", (9,), 10, 8, work=16, weights=1),
        Node("norm", "BatchNormalization", "along", (10,), 11, 8, weights=4),
        Node("sum", "Add", "along", (1, 11), 12, 8),
        Node("pooled", "GlobalAveragePooling2D", "along", (12,), 13, 8),
        Node("logits", "Dense", "mix", (13,), 14, 5, work=1, weights=1, biases=1),
    ]
    return Graph(nodes, 14)


@pytest.fixture
def channels() -> Channels:
    return tie(graph())


def test_the_residual_stream_is_tied_by_its_addition(channels: Channels) -> None:
    stream = channels.groups["stem"]
    assert stream.kind == "residual" and stream.width == 8
    assert stream.makers == ("stem", "project") and stream.takers == ("expand", "logits")
    assert set(stream.along) == {"norm", "sum", "pooled"}


def test_the_gate_ties_what_it_opens(channels: Channels) -> None:
    wide = channels.groups["expand"]
    assert wide.kind == "expansion" and wide.makers == ("expand", "excite")
    assert wide.takers == ("squeeze", "project")
    inner = channels.groups["squeeze"]
    assert inner.kind == "squeeze-excite" and inner.makers == ("squeeze",) and inner.takers == ("excite",)


def test_image_and_logits_stay(channels: Channels) -> None:
    assert {name for name, group in channels.groups.items() if group.kind == "fixed"} == {"image", "logits"}
    assert [group.name for group in channels.cuttable()] == ["stem", "expand", "squeeze"]
    assert [group.name for group in channels.cuttable(["residual"])] == ["stem"]


def test_what_a_layer_that_cannot_be_cut_takes_stays() -> None:
    nodes = [node if node.name != "pooled" else node._replace(role="fixed") for node in graph().nodes]
    groups = tie(Graph(nodes, 14)).groups
    assert groups["stem"].kind == groups["pooled"].kind == "fixed"
    assert groups["expand"].kind == "expansion"


def test_a_kind_that_is_not_there_is_said(channels: Channels) -> None:
    with pytest.raises(BadInput, match="no kind of channels 'stem'"):
        channels.cuttable(["stem"])
    nodes = graph().nodes[:2]
    with pytest.raises(BadInput, match="no channels of kind expansion"):
        tie(Graph(nodes, 1)).cuttable(["expansion"])


def test_the_cost_is_what_a_hand_counts(channels: Channels) -> None:
    macs = 144 * 3 * 8 + 16 * 8 * 32 + 144 * 32 + 32 * 16 + 16 * 32 + 16 * 32 * 8 + 8 * 5
    parameters = 9 * 3 * 8 + 8 * 32 + 9 * 32 + (32 * 16 + 16) + (16 * 32 + 32) + 32 * 8 + 4 * 8 + (8 * 5 + 5)
    bill = Bill(channels)
    assert bill.cost(channels.widths) == Cost(macs, parameters)
    narrow = channels.widths | {"expand": 16}
    assert bill.cost(narrow).macs == macs - 16 * (16 * 8 + 144 + 16 + 16 + 16 * 8)
