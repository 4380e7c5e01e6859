"""A difference as rows and sentences, the same on the terminal and on the page."""

from __future__ import annotations

from converters.graph_diff import LayerDiff, LayerState
from toolkit.explanation.difference import ModelDifference
from toolkit.explanation.stopwatch import Timed
from toolkit.explanation.words import Rows


def figure_rows(found: ModelDifference) -> Rows:
    """Size, latency and accuracy of both, and B less A."""
    rows = []
    a, b = found.sizes
    for name, one, other in (
        ("file, KiB", a.files, b.files),
        ("kernels, KiB", a.kernels, b.kernels),
        ("biases, KiB", a.biases, b.biases),
        ("other constants, KiB", a.constants, b.constants),
        ("the rest, KiB", a.rest, b.rest),
    ):
        if one or other:
            rows.append([name, f"{one / 1024:.1f}", f"{other / 1024:.1f}", f"{(other - one) / 1024:+.1f}"])
    if a.parameters and b.parameters:
        rows.append(["parameters", f"{a.parameters:,}", f"{b.parameters:,}", f"{b.parameters - a.parameters:+,}"])
    if found.latency is not None:
        one_, other_ = found.latency
        change = f"{other_.more_ms:+.3f} ({other_.more_low_ms:+.3f} to {other_.more_high_ms:+.3f})"
        rows.append(["latency p50, ms", _time(one_), _time(other_), change])
    if found.decisions is not None:
        for name, figure in found.decisions.figures.items():
            change = f"{figure.value:+.3f} ({figure.low:+.3f} to {figure.high:+.3f})"
            rows.append([name, f"{figure.a:.3f}", f"{figure.b:.3f}", change])
    return ["figure", "A", "B", "B less A"], rows


def _time(time: Timed) -> str:
    return f"{time.p50_ms:.3f} ({time.low_ms:.3f} to {time.high_ms:.3f})"


def layer_rows(found: ModelDifference, most: int | None = None) -> Rows:
    """A row for each layer that differs; those first that only one has or whose shape differs, then by the weights."""
    rows = []
    for one in sorted(found.changed, key=_weight)[:most]:
        rows.append(
            [
                one.name,
                one.kind,
                _change(_shape(one.a), _shape(one.b)),
                _change(_types(one.a), _types(one.b)),
                "-" if one.weights is None else f"{one.weights:.1%}",
                "-" if one.bias is None else f"{one.bias:.1%}",
                _change(_range(one.a), _range(one.b)),
                _change(_scale(one.a), _scale(one.b)),
            ]
        )
    return ["layer", "kind", "shape", "types", "weights", "bias", "range", "scale, zero point"], rows


def _weight(one: LayerDiff) -> float:
    if one.a is None or one.b is None or one.a.shape != one.b.shape:
        return -1e9
    return -(one.weights or 0.0) - 1e-3 * (one.bias or 0.0)


def _change(a: str, b: str) -> str:
    return a if a == b else f"{a or 'none'} -> {b or 'none'}"


def _shape(state: LayerState | None) -> str:
    return "" if state is None else "x".join(str(side) for side in state.shape)


def _types(state: LayerState | None) -> str:
    if state is None:
        return ""
    scales = f" ({state.weight_scales} scales)" if state.weight_scales > 1 else ""
    return f"{state.weights}{scales}, {state.output}" if state.weights else state.output


def _range(state: LayerState | None) -> str:
    return "" if state is None or state.low is None or state.high is None else f"{state.low:.3g} to {state.high:.3g}"


def _scale(state: LayerState | None) -> str:
    return "" if state is None or state.scale is None else f"{state.scale:.4g}, {state.zero_point}"


def flip_rows(found: ModelDifference, most: int | None = None) -> Rows:
    """A row for each image on which the two decide differently, what B broke first."""
    rows = []
    for one in found.decisions.flips[:most] if found.decisions is not None else []:
        said = [f"{one.said_a}, {one.confidence_a:.2f}", f"{one.said_b}, {one.confidence_b:.2f}"]
        rows.append([one.file, one.change, one.true, *said])
    return ["image", "change", "true", "A says", "B says"], rows


def sentences(found: ModelDifference) -> list[str]:
    """The verdict, how it was measured, and what could not be compared."""
    said = []
    if found.layers and not found.changed:
        said.append("every layer of the two files is the same")
    if found.decisions is not None:
        one, test, out = found.decisions, found.decisions.mcnemar, found.decisions.left_out
        where = found.pictures if one.split == "given" else f"the {one.split} split"
        said.append(f"decisions on {one.images} images in {one.groups} groups of {where}, measured")
        said.append(
            f"{len(one.flips)} decisions flip; McNemar: only A right {test.only_a}, only B {test.only_b}, "
            f"p {test.p:.3g} by image, {test.p_groups:.3g} by group; {one.verdict}"
        )
        if any(out):
            said.append(f"left out, in the training of one or not in both: {out[0]} of A, {out[1]} of B")
    if found.latency is not None:
        a, b = found.latency
        said.append(f"latency measured in turn on {a.device}, 1 thread, {a.runs} and {b.runs} runs, interval 95 %")
        said += [f"not a quiet machine: {flag}" for flag in dict.fromkeys([*a.flags, *b.flags])]
    return said + [f"not compared: {each}" for each in found.left_out]
