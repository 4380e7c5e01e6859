"""What a classifier has to look like from outside: one image in, one row of logits out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from device_agent.contract.errors import BadInput, NotFound
from device_agent.contract.manifest import InputSpec


class Shape(NamedTuple):
    """Whether the model wants its channels before height and width, and how many logits it gives."""

    channels_first: bool
    classes: int


def read_shape(path: Path, spec: InputSpec, inputs: Iterable[Sequence[Any]], outputs: Iterable[Sequence[Any]]) -> Shape:
    """The shape of a model with these input and output dimensions.

    >>> read_shape(Path("m.onnx"), InputSpec(height=8, width=8), [(1, 3, 8, 8)], [(1, 5)])
    Shape(channels_first=True, classes=5)

    Raises:
        BadInput: not one image of `spec` in and one row of at least two logits out.
    """
    given, answer = [tuple(dims) for dims in inputs], [tuple(dims) for dims in outputs]
    last = (1, spec.height, spec.width, spec.channels)
    first = (1, spec.channels, spec.height, spec.width)
    if given not in ([last], [first]):
        raise BadInput(f"{path}: the model's input must be {last} or {first}, got {_words(given)}")
    if len(answer) != 1 or len(answer[0]) != 2 or answer[0][0] != 1 or not _is_count(answer[0][1]):
        raise BadInput(f"{path}: the model's output must be (1, classes) with 2 classes or more, got {_words(answer)}")
    return Shape(given == [first], int(answer[0][1]))


def look_up(table: NDArray[Any], image: NDArray[np.uint8], spec: InputSpec, *, channels_first: bool) -> NDArray[Any]:
    """Model input (1, ...) C-contiguous of the table's dtype: each byte of an image (h, w, c) replaced through `table`.

    Raises:
        BadInput: not a uint8 image of the size in `spec`.
    """
    check_image(image, spec)
    return table.take(image.transpose(2, 0, 1) if channels_first else image)[None]


def check_image(image: NDArray[Any], spec: InputSpec) -> None:
    """Refuse an image that was not fitted to `spec`.

    Raises:
        BadInput: not a uint8 image of its size.
    """
    wanted = (spec.height, spec.width, spec.channels)
    if image.dtype != np.uint8 or image.shape != wanted:
        raise BadInput(f"image must be uint8 {wanted}, got {image.dtype} {image.shape}")


def require_file(path: Path) -> Path:
    """The path, when a model file is there.

    Raises:
        NotFound: no such file.
        BadInput: a folder, or an empty file.
    """
    if not path.exists():
        raise NotFound(f"{path}: no such model file")
    if not path.is_file() or path.stat().st_size == 0:
        raise BadInput(f"{path}: must be a model file, is {'empty' if path.is_file() else 'a folder'}")
    return path


def first_line(error: Exception) -> str:
    """What a foreign exception says, in one lower-case line of at most 200 characters.

    >>> first_line(RuntimeError("  Model is broken\\n  at core.cpp:132"))
    'model is broken'
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = next((line for line in lines if not line.startswith("Exception from")), type(error).__name__)
    return said[:1].lower() + said[1:200]


def _is_count(value: Any) -> bool:
    return isinstance(value, int | np.integer) and int(value) >= 2


def _words(shapes: list[tuple[Any, ...]]) -> str:
    return (
        ", ".join(str(tuple(d.item() if isinstance(d, np.integer) else d for d in dims)) for dims in shapes) or "none"
    )
