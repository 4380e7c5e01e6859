"""Teachers of a pruned network: its parent, or other runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np

from toolkit.compression.outcome import Request
from toolkit.compression.pruning import Teach
from toolkit.runs import Run
from toolkit.training.distillation import open_distillation, taught_by
from toolkit.training.examples import policy_of
from toolkit.training.extra import Extra
from toolkit.training.lessons import Progress
from toolkit.training.recipe import Recipe
from toolkit.training.teachers import open_teachers

VIEWS = 8
"""Variations of an image that the teachers are asked about, once for all rounds and the control."""


def taught(
    parent: Run, folders: Sequence[Path], cache: Path, request: Request, progress: Progress | None = None
) -> Teach:
    """What gives a fine-tuning its teachers, the runs in `folders`; their answers are kept in `cache`.

    Raises:
        NotFound: no run there.
        BadInput: a teacher of other classes, or one that was taught what the parent is judged on.
    """

    def teach(recipe: Recipe) -> tuple[Recipe, Extra]:
        dataset = parent.dataset()
        split = np.full(len(dataset), "train", "<U5")
        for name in ("val", "test"):
            split[parent.rows(name)] = name
        teachers = open_teachers(folders, dataset, split, task=recipe.task)
        # the teachers answer to whole images, in a few variations
        recipe = msgspec.structs.replace(recipe, views=VIEWS, mixup=0.0, cutmix=0.0)
        recipe, distil = taught_by(recipe, teachers, temperature=request.temperature, weight=request.teacher_weight)
        return recipe, open_distillation(
            teachers,
            distil,
            dataset,
            parent.rows("train"),
            cache=cache,
            data_sha256=parent.record.data_sha256,
            policy=policy_of(recipe),
            seed=recipe.seed,
            task=recipe.task,
            features=None,
            progress=progress,
        )

    return teach
