"""Under which conditions images were taken, so that calibration sees all of them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from toolkit.data.images import Dataset
from toolkit.evaluation.answers import collect
from toolkit.evaluation.columns import slices_of

CONDITIONS = ("site", "line", "device", "camera", "lighting")
"""Columns of a manifest that are taken where none is named."""


def calibration_slices(dataset: Dataset, rows: NDArray[np.int64], column: str = "") -> NDArray[np.str_] | None:
    """The slice of each image of `rows` (k,): (k,) str by that column of the manifest, as `lineside evaluate --by` has
    it, or by all of `CONDITIONS` together that the manifest has; None where it has none of them.

    Raises:
        BadInput: no such column, or one of too many values.
    """
    if column:
        nothing = np.zeros((len(rows), len(dataset.names)), np.float32)
        return slices_of(collect(dataset, rows, nothing, ""), dataset.names, column)
    known = [dataset.columns[name] for name in CONDITIONS if name in dataset.columns]
    return np.array([", ".join(values[row] for values in known) for row in rows]) if known else None
