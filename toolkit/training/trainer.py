"""A folder of images becomes a run: split, probe or training from scratch, model, figures. Interrupted, it goes on."""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from device_agent.contract.errors import BadInput, LinesideError, NotWritable
from device_agent.contract.files import sweep
from toolkit.data.images import Dataset
from toolkit.framework import package_versions
from toolkit.paths import locked, reading, remove
from toolkit.runs import RunRecord, read_record, split_table, write_record, write_split
from toolkit.training.checkpoint import Checkpoint, load_checkpoint, pack, save_checkpoint, unpack
from toolkit.training.devices import Devices, Kind, open_devices, together
from toolkit.training.epochs import Save, Surroundings
from toolkit.training.examples import open_examples
from toolkit.training.extra import Make
from toolkit.training.judgement import Judge
from toolkit.training.leaks import weights_notes
from toolkit.training.learning import learn
from toolkit.training.recipe import Recipe, differences
from toolkit.training.requirements import check_task
from toolkit.training.results import RESULTS, TrainingResult, document_of, report, result, write_results
from toolkit.training.tracking import MLflow, Sink, TensorBoard, Tracking, load_mlflow
from toolkit.training.watch import Unwatched, Watch

# what a new training makes stale
LATER = (
    "artifacts", "evaluation", "benchmark", "operating_point", "robustness", "report.html", "tensorboard",
    "trigger-result.json",
)  # fmt: skip
OWN = frozenset({"run.json", "split.csv", "card.toml", "checkpoint", *RESULTS, *LATER})
CHECKPOINT = Path("checkpoint", "state.npz")


def train(
    dataset: Dataset,
    split: NDArray[np.str_],
    out: Path,
    recipe: Recipe,
    *,
    weights: str | None = None,
    prevalence: list[float] | None = None,
    fresh: bool = False,
    replace: bool = False,
    watch: Watch | None = None,
    extra: Make | None = None,
    distribute: Kind = "one",
    mlflow: str | None = None,
    reasons: Sequence[str] = (),
    trigger: str = "",
) -> TrainingResult:
    """The run in folder `out`, trained on the images whose `split` (n,) is "train" and judged on those of "val".

    Images of "test" are not read. A training that was interrupted goes on after its last whole epoch; one that is done
    is left alone but for another `prevalence`, which is noted (None keeps what is noted). `fresh` starts over, and
    `replace` does where the folder holds a training of other images or another recipe; what it holds is touched when
    the new training has a first checkpoint.

    `weights` is the path behind recipe.weights. `extra` makes the supplier of further targets. `distribute` says on
    which devices; of several machines the chief alone writes the run. `mlflow` is a tracking server or a folder.
    `reasons` say why the recipe is as it is, `trigger` is the id of what in the fleet asked for the training.

    Raises:
        BadInput: the folder holds something else, or a run of another recipe, split or other images, or another
            training is under way in it; images that do not fit the task; weights of a run that knows the images
            judged on; the training diverged.
        NotWritable: the disk is full, read-only or forbids it.
        Unreachable: another machine of the training is gone.
    """
    began, watch = time.monotonic(), watch or Unwatched()
    judge = Judge(recipe.task, dataset.roles)
    check_task(dataset, split, recipe)
    for note in weights_notes(weights, dataset, split):
        watch.warn(note)
    if mlflow is not None:
        load_mlflow()
    with reading(out):
        if out.exists() and not out.is_dir():
            raise BadInput(f"{out}: is a file; a run needs a folder")
        _check_outside(out, dataset)
    devices = open_devices(distribute)
    devices.check(recipe.batch)
    with ExitStack() as stack:
        if distribute == "multi-worker":
            stack.enter_context(together())
        watch.stage("reading")
        record = _record(dataset, split, out, recipe, prevalence, reasons, trigger)
        old, state = _agreed(devices, record, lambda: _prepared(stack, out, record, fresh, replace))
        if old is not None and prevalence is None:
            record = msgspec.structs.replace(record, prevalence=old.prevalence)
        if old is not None and old.status == "trained":
            return _trained_already(out, old, record, devices, began)
        folder, spec = out if devices.chief else Path(tempfile.gettempdir()), recipe.architecture.input_spec()
        sides = [np.flatnonzero(split == name) for name in ("train", "val")]
        parts = [stack.enter_context(open_examples(dataset, rows, spec, folder, watch)) for rows in sides]
        keep = _keeper(out, record, dataset, split, begun=state is not None) if devices.chief else _keep_nothing
        tracking = Tracking(_sinks(out, record, mlflow, state) if devices.chief else {}, watch.warn)
        around = Surroundings(devices, keep, watch, tracking)
        supply = None if extra is None else lambda model: extra(model, record.data_sha256)
        with tracking.until_the_end():
            model, state = learn(recipe, judge, parts[0], parts[1], weights, state, around, supply)
        watch.stage("writing")
        document = document_of(record, recipe, judge, model, state, parts[1])
        if not devices.chief:
            return result(out, record, document, already=False, began=began)
        write_results(out, record, model, state, document)
        return report(out, record, already=False, began=began)


def _check_outside(out: Path, dataset: Dataset) -> None:
    """Plots in a folder whose sub-folders are classes would be images of one more class."""
    if dataset.manifest is None and dataset.dir.resolve() in (out.resolve(), *out.resolve().parents):
        raise BadInput(f"{out}: must lie outside of {dataset.dir}, whose folders are the classes")


def _trained_already(out: Path, old: RunRecord, new: RunRecord, devices: Devices, began: float) -> TrainingResult:
    """What the run's folder tells the chief, on every machine."""
    content = b""
    if devices.chief:
        restated = _restated(out, old, new)
        found = report(out, old, already=True, began=began)
        content = msgspec.json.encode(msgspec.structs.replace(found, prevalence_changed=restated))
    return msgspec.json.decode(devices.told(content), type=TrainingResult)


class _Word(msgspec.Struct, kw_only=True):
    """What the chief tells the other machines before they start: what is wrong, or what is trained, and how far."""

    problem: str = ""
    identity: dict[str, Any] = {}
    old: RunRecord | None = None
    begun: bool = False


def _agreed(devices: Devices, record: RunRecord, prepare: Any) -> tuple[RunRecord | None, Checkpoint | None]:
    """The record of the same training and its state, if the run's folder has them, on every machine.

    Raises:
        LinesideError: what `prepare` raises.
        BadInput: on another machine than the chief: what is wrong there, or its images or recipe differ.
    """
    if devices.worker.machines == 1:
        return prepare()  # type: ignore[no-any-return]
    word, state = _Word(identity=_identity(record)), None
    if devices.chief:
        try:
            word.old, state = prepare()
        except LinesideError as error:
            devices.told(msgspec.json.encode(_Word(problem=str(error))))
            raise
        word.begun = state is not None
    word = msgspec.json.decode(devices.told(msgspec.json.encode(word)), type=_Word)
    if word.problem:
        raise BadInput(f"the chief of this training cannot begin: {word.problem}")
    content = devices.told(pack(state) if state is not None else b"") if word.begun else b""
    changes = differences(word.identity, _identity(record))
    if changes:
        raise BadInput(f"this machine has another training than the chief: {'; '.join(changes)}")
    return word.old, unpack(content, Path("the chief's checkpoint")) if word.begun else None


def _prepared(
    stack: ExitStack, out: Path, record: RunRecord, fresh: bool, replace: bool
) -> tuple[RunRecord | None, Checkpoint | None]:
    """The folder, locked as long as `stack` is open; the record and the state in it that this training goes on from."""
    busy = f"{out}: another training is under way in this folder; wait for it, or name another folder"
    stack.enter_context(locked(out, busy))
    old = _held(out, record, fresh, replace)
    if old is not None and old.status == "trained":
        return old, None
    if not os.access(out, os.W_OK):
        raise NotWritable(f"{out}: cannot be written: permission denied")
    return old, None if old is None else load_checkpoint(out / CHECKPOINT)


def _sinks(out: Path, record: RunRecord, mlflow: str | None, state: Checkpoint | None) -> dict[str, Any]:
    """What makes each sink of figures, when the first epoch is kept."""

    def on_server() -> Sink:
        return MLflow(str(mlflow), record.name, record.recipe, out / "checkpoint" / "mlflow.txt")

    board = {"tensorboard": lambda: TensorBoard(out / "tensorboard")}
    return board if mlflow is None else board | {"mlflow": on_server}


def _keep_nothing(state: Checkpoint) -> None:
    """The chief keeps it."""


def _record(
    dataset: Dataset,
    split: NDArray[np.str_],
    out: Path,
    recipe: Recipe,
    prevalence: list[float] | None,
    reasons: Sequence[str],
    trigger: str,
) -> RunRecord:
    return RunRecord(
        status="training",
        name=out.resolve().name,
        labels=dataset.label_list(),
        input=recipe.architecture.input_spec(),
        family=recipe.architecture.family,
        alpha=recipe.architecture.alpha,
        seed=recipe.seed,
        data=str(dataset.source.resolve()),
        data_from_run=Path(os.path.relpath(dataset.source.resolve(), out.resolve())).as_posix(),
        data_sha256=dataset.sha256(),
        split_sha256=hashlib.sha256(split_table(dataset, split)).hexdigest(),
        recipe=recipe.document(),
        reasons=list(reasons),
        packages=package_versions(),
        trigger=trigger,
        prevalence=prevalence,
    )


def _held(out: Path, new: RunRecord, fresh: bool, replace: bool) -> RunRecord | None:
    """The record of the same training in the folder; None where nothing is there, or what is there may go."""
    sweep(out, *OWN)
    sweep(out / CHECKPOINT.parent)
    with reading(out):
        names = {path.name for path in out.iterdir()}
    try:
        old = read_record(out)
    except BadInput:
        if (fresh or replace) and names <= OWN:
            return None
        raise
    if old is None and names and not (replace and names <= OWN):
        raise BadInput(f"{out}: is not empty and holds no run; name another folder")
    if old is None or fresh:
        return None
    changes = differences(_identity(old), _identity(new))
    if changes and replace:
        return None
    if changes:
        raise BadInput(f"{out}: holds another training: {'; '.join(changes)}; name another folder, or --replace")
    if old.status == "trained" and "model.keras" not in names:
        raise BadInput(f"{out}: its model.keras is gone; train again with --fresh")
    return old


def _restated(out: Path, old: RunRecord, new: RunRecord) -> bool:
    """Whether the record had another prevalence; it then has the new one, and where the images are now. No weight
    depends on either."""
    told = {name: getattr(new, name) for name in ("prevalence", "data", "data_from_run")}
    restated = msgspec.structs.replace(old, **told)
    if restated != old:
        write_record(out, restated)
    return restated.prevalence != old.prevalence


def _identity(record: RunRecord) -> dict[str, Any]:
    classes = [f"{label.name} ({label.role})" for label in record.labels]
    given = {"data": f"images {record.data_sha256[:12]}", "split": f"table {record.split_sha256[:12]}"}
    return record.recipe | given | {"classes": ", ".join(classes)}


def _keeper(out: Path, record: RunRecord, dataset: Dataset, split: NDArray[np.str_], *, begun: bool) -> Save:
    """What saves a state. The first of a training that has not `begun` takes the place of what the folder held; the
    old checkpoint goes first and the new record comes next, so that a kill leaves no mixture of two trainings."""

    def keep(state: Checkpoint) -> None:
        nonlocal begun
        if not begun:
            remove(out / "checkpoint")
            write_record(out, record)
            for name in (*RESULTS, *LATER):
                remove(out / name)
            write_split(out / "split.csv", dataset, split)
            begun = True
        save_checkpoint(out / CHECKPOINT, state)

    return keep
