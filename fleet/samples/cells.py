"""A histogram cell in words."""

from __future__ import annotations

from device_agent.contract.histogram import BINS, EDGES
from fleet.models import Model


def say_cell(cell: int, model: Model | None) -> str:
    """Predicted class and range of the log-odds; a class of a model that is not known is a number.

    >>> say_cell(2 * 24 + 3, None), say_cell(0, None), say_cell(23, None)
    ('class 2, log-odds 0 to 0.5', 'class 0, log-odds under -1', 'class 0, log-odds over 10')
    """
    label, confidence = divmod(cell, BINS)
    name = model.labels[label].name if model is not None and label < len(model.labels) else f"class {label}"
    if confidence == 0:
        return f"{name}, log-odds under {EDGES[0]:g}"
    if confidence == BINS - 1:
        return f"{name}, log-odds over {EDGES[-1]:g}"
    return f"{name}, log-odds {EDGES[confidence - 1]:g} to {EDGES[confidence]:g}"
