"""A trained run becomes a smaller one: rounds of score, cut and fine-tune, a control, a look at the clock."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from converters.artifact import file_sha256
from device_agent.contract.errors import BadInput, BudgetMissed
from device_agent.contract.files import sweep, write_whole
from toolkit.compression.channels import tie
from toolkit.compression.comparing import gain, side
from toolkit.compression.cost import Bill
from toolkit.compression.graph import read_graph
from toolkit.compression.outcome import FILE, Pruning, Request, Timing, changes, read_pruning, write_pruning
from toolkit.compression.rounds import Rounds, cuts_between
from toolkit.compression.speed import check_artifacts, compare, refusal, write_file
from toolkit.compression.stages import Stages
from toolkit.compression.tuning import Ground, first_line, tuning_recipe
from toolkit.conversion import draw_rows
from toolkit.data.images import load
from toolkit.framework import load_keras, package_versions
from toolkit.models.answers import predict
from toolkit.paths import locked, reading, remove
from toolkit.runs import Run, RunRecord, read_record
from toolkit.training.checkpoint import Checkpoint, Epoch
from toolkit.training.examples import open_examples
from toolkit.training.extra import Extra
from toolkit.training.judgement import Judge
from toolkit.training.recipe import Recipe, recipe_of
from toolkit.training.results import document_of, write_results
from toolkit.training.trainer import OWN
from toolkit.training.watch import Unwatched, Watch

Teach = Callable[[Recipe], tuple[Recipe, Extra]]
"""The recipe with its teachers, and the supplier of their answers."""


def prune(
    parent: Run,
    out: Path,
    request: Request,
    *,
    artifacts: Sequence[str] = (),
    teach: Teach | None = None,
    fresh: bool = False,
    watch: Watch | None = None,
) -> Pruning:
    """The run in folder `out`: the parent's network with fewer channels, fine-tuned, and pruning.json beside it.

    Interrupted, it goes on after the last whole epoch. With a share of 1 nothing is cut and nothing is trained: the
    model answers as its parent, bit for bit. `artifacts` are those on which parent and pruned model are measured in
    turns.

    Raises:
        BadInput: the folder holds something else, or another pruning, or one is under way in it; a network whose
            channels cannot be followed; a budget that cannot be met; the fine-tuning diverged.
        BudgetMissed: the pruned model is slower than its parent on one of the artifacts; no run is left.
        NotWritable: the disk is full, read-only or forbids it.
    """
    began, watch = time.monotonic(), watch or Unwatched()
    request.check()
    check_artifacts([*artifacts, *([request.artifact] if request.budget == "latency" else [])])
    if out.resolve() == parent.dir.resolve():
        raise BadInput(f"{out}: is the parent; what is pruned needs another folder")
    with locked(out, f"{out}: another pruning or training is under way in this folder; wait for it"):
        sha256 = file_sha256(parent.model_path)
        if (done := _held(out, request, sha256, artifacts, fresh)) is not None:
            return msgspec.structs.replace(done, already_pruned=True)
        with ExitStack() as stack:
            work = _Work(parent, sha256, request, _ground(stack, parent, out, request, teach, watch), out)
            found, model, history = _pruned(work, artifacts)
            found = msgspec.structs.replace(found, seconds=round(time.monotonic() - began, 1))
            watch.stage("writing")
            _write(work, found, model, history)
    return found


class _Work(NamedTuple):
    """What a pruning works with."""

    parent: Run
    sha256: str
    request: Request
    ground: Ground
    out: Path

    @property
    def folder(self) -> Path:
        return self.out / "checkpoint"


def _held(out: Path, request: Request, sha256: str, artifacts: Sequence[str], fresh: bool) -> Pruning | None:
    """The pruning that the folder holds, if it is the same and done; else the folder has no run any more.

    Raises:
        BadInput: it holds something else.
    """
    sweep(out, *OWN, FILE)
    with reading(out):
        names = {path.name for path in out.iterdir()}
    old = read_pruning(out) if FILE in names else None
    if old is not None and not fresh and read_record(out) is not None:
        before = msgspec.to_builtins(old.request) | {"parent": old.parent_sha256}
        if differ := changes(before, msgspec.to_builtins(request) | {"parent": sha256}):
            raise BadInput(f"{out}: holds another pruning: {'; '.join(differ)}; name another folder, or --fresh")
        if missing := [name for name in artifacts if name not in {timing.artifact for timing in old.timings}]:
            raise BadInput(f"{out}: is done and was not measured as {missing[0]}; name another folder, or --fresh")
        return old
    if (names - {FILE, "checkpoint"} and old is None) or not names <= OWN | {FILE}:
        raise BadInput(f"{out}: is not empty and holds no pruning; name another folder")
    if fresh:
        for name in ("run.json", *sorted(names)):
            remove(out / name)
    return None


def _ground(stack: ExitStack, parent: Run, out: Path, request: Request, teach: Teach | None, watch: Watch) -> Ground:
    """The parent's images and its recipe, changed for fine-tuning."""
    dataset = parent.dataset()
    recipe = tuning_recipe(
        recipe_of(parent.record.recipe), epochs=max(1, request.last_epochs), lr=request.lr, seed=request.seed
    )
    extra = None
    if teach is not None:
        recipe, extra = teach(recipe)
    train, val = (
        stack.enter_context(open_examples(dataset, parent.rows(name), parent.record.input, out, watch))
        for name in ("train", "val")
    )
    return Ground(recipe, Judge(recipe.task, dataset.roles), train, val, watch, extra)


def _pruned(work: _Work, artifacts: Sequence[str]) -> tuple[Pruning, Any, list[Epoch]]:
    """What all stages gave: the figures, the pruned model, its history.

    Raises:
        BudgetMissed: the pruned model is slower than its parent.
    """
    keras, request = load_keras(), work.request  # first: what imports TensorFlow itself hears its greetings
    import tensorflow as tf

    keras.utils.set_random_seed(request.seed)
    tf.config.experimental.enable_op_determinism()
    parent = work.parent.model()
    before = tie(read_graph(parent))
    plan = msgspec.to_builtins(request) | {"parent": work.sha256}
    stages = Stages(work.folder, plan, work.parent.record.family)
    calibration = load(work.parent.dataset(), work.parent.record.input, draw_rows(work.parent).calibration)
    rounds = Rounds(request, work.ground, stages, parent, before, calibration)
    model, history = rounds.run()
    timings = _timings(work, artifacts, parent, model, calibration)
    control = rounds.control()
    after = tie(read_graph(model))
    costs = [Bill(each).cost(each.widths) for each in (before, after)]
    found = Pruning(
        run=str(work.out),
        parent=str(work.parent.dir),
        parent_sha256=work.sha256,
        request=request,
        cuts=cuts_between(before, after),
        macs=(costs[0].macs, costs[1].macs),
        parameters=(costs[0].parameters, costs[1].parameters),
        images=len(work.ground.val.labels),
        control_epochs=sum(request.all_epochs),
        timings=timings,
        **_compared(work, parent, model, control),
    )
    return found, model, history


def _timings(
    work: _Work, artifacts: Sequence[str], parent: Any, model: Any, calibration: NDArray[np.uint8]
) -> list[Timing]:
    """Parent and pruned model on each artifact.

    Raises:
        BudgetMissed: it is slower on one of them.
    """
    timings, spec = [], work.parent.record.input
    for name in artifacts:
        work.ground.watch.stage(f"measuring {name}")
        place = work.folder / "speed" / name
        before = write_file(parent, name, spec, calibration, place / "parent")
        timings.append(compare(name, before, write_file(model, name, spec, calibration, place / "pruned"), spec))
    if reason := refusal(timings):
        raise BudgetMissed(f"{work.out}: {reason}; take --align curve, or another budget")
    return timings


def _compared(work: _Work, parent: Any, model: Any, control: Any) -> dict[str, Any]:
    val, spec, seed = work.ground.val, work.parent.record.input, work.request.seed
    said = [predict(each, val.images, spec) for each in (parent, model, control)]
    sides = [side(logits, val, work.ground.judge, seed=seed) for logits in said]
    return {
        "parent_score": sides[0].score,
        "pruned_score": sides[1].score,
        "control_score": sides[2].score,
        "gain": gain(sides[0], sides[1], val, seed=seed),
        "gain_over_control": gain(sides[2], sides[1], val, seed=seed),
    }


def _write(work: _Work, found: Pruning, model: Any, history: list[Epoch]) -> None:
    """The run's folder; run.json comes last."""
    parent, recipe, out = work.parent, work.ground.recipe, work.out
    record = _record(work)
    write_whole(out / "split.csv", (parent.dir / "split.csv").read_bytes())
    history = history or [first_line(model, work.ground)]
    state = Checkpoint(history=history, weights=[], optimizer=[], best=[])
    document = document_of(record, recipe, work.ground.judge, model, state, work.ground.val, kept=history[-1])
    write_pruning(out, found)
    write_results(out, record, model, state, document)
    shutil.rmtree(work.folder, ignore_errors=True)


def _record(work: _Work) -> RunRecord:
    """The parent's record, with the fine-tuning's recipe and what was cut from whom."""
    source = work.parent.data.resolve()
    recipe = msgspec.structs.replace(work.ground.recipe, epochs=sum(work.request.all_epochs))
    pruned_to = f"{work.request.share:g} of its {work.request.budget}"
    return msgspec.structs.replace(
        work.parent.record,
        name=work.out.resolve().name,
        status="training",
        data=str(source),
        data_from_run=Path(os.path.relpath(source, work.out.resolve())).as_posix(),
        recipe=recipe.document() | {"pruned_from": work.sha256, "pruned_to": pruned_to},
        reasons=[],
        packages=package_versions(),
        metrics={},
    )
