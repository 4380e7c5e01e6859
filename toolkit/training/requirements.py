"""What a task asks of the images that it is trained on and judged by."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from device_agent.contract.errors import BadInput
from toolkit.data.images import Dataset
from toolkit.training.recipe import Recipe


def check_task(dataset: Dataset, split: NDArray[np.str_], recipe: Recipe) -> None:
    """Refuse images that cannot be trained on or judged by.

    Raises:
        BadInput: a class or mark that a split has not, marks or roles that do not fit the task.
    """
    for name in ("train", "val"):
        absent = set(range(len(dataset.names))) - set(dataset.labels[split == name].tolist())
        if absent and (recipe.task != "labels" or dataset.marks is None):
            raise BadInput(f"{dataset.dir}: class {dataset.names[min(absent)]!r} has no image in the {name} split")
    roles = set(dataset.roles)
    if recipe.task == "labels":
        _check_marks(dataset, split)
    elif dataset.marks is not None and (dataset.marks.sum(axis=1) > 1).any():
        row = int(np.argmax(dataset.marks.sum(axis=1) > 1))
        raise BadInput(f"{dataset.dir}: {dataset.files[row]} bears several labels; --task labels is for such images")
    asked = {"task hierarchy": recipe.task == "hierarchy", "--stop-on defect-recall": recipe.stop_on == "defect-recall"}
    for what, wanted in asked.items():
        if wanted and roles != {"good", "defect"}:
            raise BadInput(f"{dataset.dir}: {what} needs good and defect classes; labels.json says which are good")


def _check_marks(dataset: Dataset, split: NDArray[np.str_]) -> None:
    good = dataset.roles.count("good")
    if good != 1:
        raise BadInput(f"{dataset.dir}: task labels needs one good class beside the marks, got {good}")
    if dataset.marks is None:
        raise BadInput(f'{dataset.dir}: task labels needs a manifest with several labels in a cell, like "pit|crack"')
    for name in ("train", "val"):
        side = dataset.marks[split == name]
        for place, role in enumerate(dataset.roles):
            if role == "defect" and not 0 < side[:, place].sum() < len(side):
                some = "every" if side[:, place].any() else "no"
                mark = dataset.names[place]
                raise BadInput(f"{dataset.dir}: in the {name} split {some} image bears {mark!r}; both must be there")
