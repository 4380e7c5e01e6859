"""Signal-to-noise ratio of every layer of a quantized .tflite file against the float network that it stands for.

Two ratios a layer. `sqnr_db` is what has come together at its output in the quantized network. `own_db` is its own
part: the float network in which this layer alone has its weights and its output rounded. The rounding of its input is
the part of the layer that gave the input. What the own part does to the network's answer (`harm`) says which layer is
to blame.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from converters.layers import kernel_of, layer_names, limits, noisy_layers, output_of
from converters.mixed_graph import INPUT, Floats, Mix, write_mixed
from converters.network import Network, open_network
from converters.tflite_file import Graph, Tensor, read_graph
from device_agent import preprocess
from device_agent.contract.errors import BadInput
from device_agent.contract.manifest import InputSpec

NARROW = 1 / 16
_KEPT = 2048  # values of a tensor and an image that are kept for its quantiles
_COMPARED = 8  # images on which a layer's own output is held against the float one, value by value
_CEILING_DB = 120.0
Progress = Callable[[str], None]
Images = NDArray[np.uint8]


class LayerNoise(msgspec.Struct, frozen=True, kw_only=True):
    """A layer, and how much of what it says is noise, measured on images.

    `number` is its place in the graph, -1 for the input. `sqnr_db`, `own_db`, and `weights_db` of its kernel are in dB,
    120 where there is no noise. `harm` is the root mean square of what its own part changes in the answers, as a share
    of their spread. `used` is the share of the range of its output that holds 99.8 % of the values, `clipped` the share
    of values outside. Of its `channels`, `dead` never change, and `narrow` take less than 1/16 of the tensor's range.
    `weight_ratio` is the largest kernel range of a channel over the median one, `weight_scales` the number of scales of
    the kernel, `bias` the largest bias as a share of what int32 holds. 0 where there is nothing to say it of.
    """

    number: int
    name: str
    kind: str
    sqnr_db: float
    own_db: float
    weights_db: float
    harm: float
    low: float
    high: float
    used: float
    clipped: float
    channels: int
    dead: int
    narrow: int
    weight_ratio: float = 0.0
    weight_scales: int = 0
    bias: float = 0.0


@dataclass(frozen=True)
class Seen:
    """What the float network had in one tensor: a sample of values (m,), and each channel's extremes (channels,)."""

    sample: NDArray[np.float32]
    low: NDArray[np.float32]
    high: NDArray[np.float32]


@dataclass(frozen=True)
class Noise:
    """All layers in order, what the float network's tensors had in them by number, the mean of each channel (channels,)
    that a layer's own part adds, the float network's answers (n, classes) and those of the quantized one, and their
    spread: the standard deviation, each image's mean taken off."""

    layers: list[LayerNoise]
    seen: dict[int, Seen]
    shifts: dict[int, NDArray[np.float64]]
    reference: NDArray[np.float32]
    answers: NDArray[np.float32]
    spread: float


def measure_noise(
    path: Path, floats: Floats, images: Images, spec: InputSpec, *, progress: Progress | None = None
) -> Noise:
    """The noise of the quantized file at `path` on images (n, h, w, c) uint8 fitted to `spec`.

    Args:
        floats: the true constants, from `mixed_graph.true_constants`; without them the rounding of weights is unseen.
        progress: is told the name of each layer before it is measured.

    Raises:
        BadInput: a file that is not quantized, is for another input, holds an operator that LiteRT cannot run, or gives
            the same answer for every image.
    """
    graph = read_graph(path)
    layers = noisy_layers(graph)
    names = layer_names(graph)
    outputs = frozenset(output_of(graph, number) for number in layers)
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder) / "mixed.tflite"

        def opened(mix: Mix, table: NDArray[np.float32] | None = None) -> _Opened:
            places = write_mixed(path, scratch, mix, floats, graph=graph)
            return _Opened(open_network(scratch, spec, table), places)

        whole = Mix(integers=frozenset(range(len(graph.operators))), float_input=False, shown=outputs)
        together = _run_both(graph, layers, opened(Mix(shown=outputs)), opened(whole), images)
        spread = _spread(path, together.reference)
        own = {}
        for number in layers:
            if progress is not None:
                progress(names[number])
            tensor, alone = output_of(graph, number), frozenset([number])
            if number == INPUT:
                network = opened(Mix(shown=frozenset([tensor])), _coded(graph.tensors[tensor], spec))
            else:
                network = opened(Mix(rounded=alone, weights=alone, shown=frozenset([tensor])))
            own[number] = _own_part(tensor, network, together, images)
    made = [
        _layer(graph, number, together.power[number], own[number], together.seen[output_of(graph, number)], floats)
        for number in layers
    ]
    made = [msgspec.structs.replace(each, harm=each.harm / spread) for each in made]
    shifts = {number: each.shift for number, each in own.items()}
    return Noise(made, together.seen, shifts, together.reference, together.answers, spread)


def _coded(tensor: Tensor, spec: InputSpec) -> NDArray[np.float32]:
    """What each byte becomes by the codes of the input (256,), without what all of them are off: the first bias makes
    up for that, or it is a shade of brightness."""
    scale, zero_point = float(tensor.scale[0]), int(tensor.zero_point[0])
    codes = preprocess.table(spec, scale=scale, zero_point=zero_point, dtype=tensor.dtype)
    true, got = preprocess.table(spec), (codes.astype(np.float64) - zero_point) * scale
    return np.asarray(got - np.mean(got - true), np.float32)


def _spread(path: Path, logits: NDArray[np.float32]) -> float:
    if not np.isfinite(logits).all() or float(logits.std(axis=0).mean()) < 1e-6:
        raise BadInput(f"{path}: gives the same answer for all {len(logits)} images, so there is nothing to explain")
    return float((logits - logits.mean(axis=1, keepdims=True)).std())


@dataclass
class _Power:
    """Sums of squares of a signal and of the noise in it."""

    signal: float = 0.0
    noise: float = 0.0

    def add(self, true: NDArray[np.float32], got: NDArray[np.float32]) -> None:
        self.signal += float(np.square(true, dtype=np.float64).sum())
        self.noise += float(np.square(true.astype(np.float64) - got).sum())

    def ratio_db(self) -> float:
        return decibels(self.signal, self.noise)


def decibels(signal: float, noise: float) -> float:
    """The ratio of two powers in dB, 120 at most.

    >>> decibels(1000.0, 1.0), decibels(1.0, 0.0)
    (30.0, 120.0)
    """
    if signal <= 0 or noise <= 0:
        return _CEILING_DB if noise <= 0 else 0.0
    return min(_CEILING_DB, 10 * float(np.log10(signal / noise)))


@dataclass
class _Extremes:
    """What a tensor of the float network holds, image after image."""

    rng: np.random.Generator
    samples: list[NDArray[np.float32]]
    low: NDArray[np.float32] | None = None
    high: NDArray[np.float32] | None = None

    def add(self, value: NDArray[np.float32]) -> None:
        flat = value.reshape(-1, value.shape[-1] if value.ndim > 1 else 1)
        low, high = flat.min(axis=0), flat.max(axis=0)
        self.low = low if self.low is None else np.minimum(self.low, low)
        self.high = high if self.high is None else np.maximum(self.high, high)
        whole = value.ravel()
        self.samples.append(whole if whole.size <= _KEPT else self.rng.choice(whole, _KEPT, shuffle=False))

    def seen(self) -> Seen:
        assert self.low is not None and self.high is not None
        return Seen(np.concatenate(self.samples), self.low, self.high)


class _Opened(NamedTuple):
    """A network, and where each tensor of the file is found in it."""

    network: Network
    places: dict[int, int]

    def value(self, tensor: int) -> NDArray[np.float32]:
        return self.network.value(self.places[tensor])


class _Together(NamedTuple):
    """Both networks on the same images; `kept` are the float one's tensors for the first of them."""

    power: dict[int, _Power]
    seen: dict[int, Seen]
    reference: NDArray[np.float32]
    answers: NDArray[np.float32]
    kept: list[dict[int, NDArray[np.float32]]]


def _run_both(graph: Graph, layers: Sequence[int], true: _Opened, integer: _Opened, images: Images) -> _Together:
    power = {number: _Power() for number in layers}
    tensors = {number: output_of(graph, number) for number in layers}
    extremes = {tensor: _Extremes(np.random.default_rng(0), []) for tensor in tensors.values()}
    reference, answers, kept = [], [], []
    for place, image in enumerate(images):
        reference.append(true.network.run(image))
        answers.append(integer.network.run(image))
        values = {tensor: true.value(tensor) for tensor in tensors.values()}
        for number, tensor in tensors.items():
            power[number].add(values[tensor], integer.value(tensor))
            extremes[tensor].add(values[tensor])
        if place < _COMPARED:
            kept.append(values)
    seen = {tensor: each.seen() for tensor, each in extremes.items()}
    return _Together(power, seen, np.array(reference), np.array(answers), kept)


class _Own(NamedTuple):
    """A layer's own part: its ratio in dB, the root mean square of what it changes in the answers, and the mean of what
    it adds to each channel."""

    ratio_db: float
    harm: float
    shift: NDArray[np.float64]


def _own_part(tensor: int, alone: _Opened, together: _Together, images: Images) -> _Own:
    power, answers, shifts = _Power(), [], []
    for place, image in enumerate(images):
        answers.append(alone.network.run(image))
        if place < _COMPARED:
            true, got = together.kept[place][tensor], alone.value(tensor)
            power.add(true, got)
            shifts.append((got.astype(np.float64) - true).reshape(-1, true.shape[-1]).mean(axis=0))
    harm = float(np.sqrt(np.square(np.array(answers) - together.reference).mean()))
    return _Own(power.ratio_db(), harm, np.mean(shifts, axis=0))


def _layer(graph: Graph, number: int, power: _Power, own: _Own, seen: Seen, floats: Floats) -> LayerNoise:
    tensor = graph.tensors[output_of(graph, number)]
    low, high = limits(tensor)
    ends = np.quantile(seen.sample, [0.001, 0.999])
    step, span = float(tensor.scale[0]), max(float(seen.high.max() - seen.low.min()), 1e-12)
    widths = seen.high - seen.low
    outside = (seen.sample < low - step / 2) | (seen.sample > high + step / 2)
    made = LayerNoise(
        number=number,
        name=layer_names(graph)[number],
        kind="INPUT" if number == INPUT else graph.operators[number].kind,
        sqnr_db=own.ratio_db if number == INPUT else power.ratio_db(),
        own_db=own.ratio_db,
        weights_db=_CEILING_DB,
        harm=own.harm,
        low=low,
        high=high,
        used=min(1.0, float(np.ptp(ends)) / (high - low)),
        clipped=float(outside.mean()),
        channels=len(widths),
        dead=int((widths < 1e-6 * span).sum()),
        narrow=int(((widths >= 1e-6 * span) & (widths < NARROW * span)).sum()),
    )
    return made if number == INPUT else _with_weights(made, graph, floats)


def _with_weights(layer: LayerNoise, graph: Graph, floats: Floats) -> LayerNoise:
    kernel, bias = kernel_of(graph, layer.number)
    if kernel < 0:
        return layer
    stored = graph.tensors[kernel].values()
    true = floats.get(kernel, stored)
    axis = stored.ndim - 1 if layer.kind == "DEPTHWISE_CONV_2D" else 0
    ranges = np.abs(np.moveaxis(true, axis, 0).reshape(true.shape[axis], -1)).max(axis=1)
    power = _Power()
    power.add(true, stored)
    data = graph.tensors[bias].data if bias >= 0 else None
    most = 0.0 if data is None or data.dtype != np.int32 else float(np.abs(data.astype(np.int64)).max()) / 2**31
    return msgspec.structs.replace(
        layer,
        weights_db=power.ratio_db(),
        weight_ratio=float(ranges.max() / max(float(np.median(ranges)), 1e-12)),
        weight_scales=int(graph.tensors[kernel].scale.size),
        bias=most,
    )
