"""What a frozen network of the shelf sees in the images of a data set."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from toolkit.data.images import Dataset, Progress, load
from toolkit.models.answers import predict
from toolkit.models.architecture import Architecture
from toolkit.models.networks import build

_AT_ONCE = 256


def backbone_features(
    dataset: Dataset, architecture: Architecture, weights: str, progress: Progress | None = None
) -> NDArray[np.float32]:
    """The pooled features of every image: (n, features) float32; the images are read in portions.

    Raises:
        BadInput: weights that do not fit the architecture, or an image that cannot be read.
        NotFound: no such file of weights.
    """
    from toolkit.framework import load_keras

    model = build(architecture, 2, weights=weights)
    pooled = load_keras().Model(model.inputs, model.get_layer("pooled").output)
    spec = architecture.input_spec()
    parts = []
    for start in range(0, len(dataset), _AT_ONCE):
        rows = np.arange(start, min(start + _AT_ONCE, len(dataset)))
        parts.append(predict(pooled, load(dataset, spec, rows), spec))
        if progress is not None:
            progress(int(rows[-1]) + 1, len(dataset))
    return np.concatenate(parts)
