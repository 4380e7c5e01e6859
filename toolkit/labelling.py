"""From a run and a pool of pictures to the list of those to label next; answers come through the device's runtime."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from device_agent.contract.errors import BadInput, NotFound
from device_agent.contract.files import replacing, sweep, write_whole
from toolkit.artifacts import open_artifacts
from toolkit.data.decoding import read_grey
from toolkit.data.doubt import doubts
from toolkit.data.duplicates import exact_sets, near_pairs
from toolkit.data.images import Dataset
from toolkit.data.looks import Looks, look
from toolkit.data.pool import Pool, check_free, copy_roles, open_pool
from toolkit.data.selection import By, Selection, Spread, Strategy, list_text, select
from toolkit.data.tables import read_table
from toolkit.evaluation.answers import infer_on
from toolkit.evaluation.elsewhere import trained_on
from toolkit.evaluation.scores import ensure_evaluation
from toolkit.runs import Run

Progress = Callable[[int, int], None]
EACH = "file"


class Wishes(NamedTuple):
    """What is to be chosen; see `selection.select`. `group` is the column of the groups, "file" makes each picture one;
    by default the column group or part, and without it near copies of one another are a group."""

    budget: int
    strategy: Strategy = "mix"
    per_group: int = 1
    group: str | None = None
    by: By = "entropy"
    spread: Spread = "k-centre"
    seed: int = 0


class Chosen(NamedTuple):
    """The selection, whose answers it rests on (artifact or file), how many pictures of the pool have a class already
    and were passed over, how many the run was trained on, which are left out too (None: its images are not there to
    compare with), and how their groups are known."""

    selection: Selection
    answers_by: str
    passed_over: int
    trained_on: int | None
    grouped_by: str


def choose(
    run: Run,
    folder: Path,
    wishes: Wishes,
    *,
    artifact: str | None = None,
    logits: Path | None = None,
    threads: int = 1,
    progress: Progress | None = None,
) -> Chosen:
    """The pictures of the pool in `folder` to label next.

    In a manifest in which some have a class and some have none, those without are the pool. An artifact of the run
    answers, by default the first of them, or a table of logits that were taken before, such as by devices: file, and a
    column for each class. Confidences are calibrated with the artifact's temperature; it is 1 for a table without one.

    Raises:
        NotFound, BadInput, ParityFailed: pool, run, artifact or table are not what they have to be.
    """
    task = str(run.record.recipe.get("task", "classes"))
    pool, passed_over = _unlabelled(open_pool(folder), task)
    pool, trained_on = _unseen(run, pool)
    dataset = _as_dataset(run, pool)
    column = _group_column(pool, wishes.group)
    if logits is None:
        artifact = artifact or open_artifacts(run)[0].name
    temperature = ensure_evaluation(run, artifact, threads=threads).temperature if artifact else 1.0
    if logits is not None:
        scores, answers_by = read_logits(logits, pool, dataset.names), str(logits)
    else:
        rows, answers_by = np.arange(len(pool)), str(artifact)
        scores, _ = infer_on(run, answers_by, dataset, rows, threads=threads, progress=progress)
    seen = None
    if column is None or wishes.strategy in ("mix", "diversity"):
        seen = _look(dataset, progress)
    groups = pool.columns.get(column or "", pool.files)
    if column is None and seen is not None:
        groups = near_copies(dataset, seen)
    selection = select(
        pool.files,
        [group or file for group, file in zip(groups, pool.files, strict=True)],
        doubts(scores, run.labels, temperature=temperature, task=task),
        wishes.budget,
        strategy=wishes.strategy,
        features=None if seen is None else seen.features,
        per_group=wishes.per_group,
        by=wishes.by,
        spread=wishes.spread,
        temperature=temperature,
        seed=wishes.seed,
    )
    return Chosen(selection, answers_by, passed_over, trained_on, column or "near copies")


def near_copies(dataset: Dataset, seen: Looks) -> list[str]:
    """The group of each picture where none is known: equal and nearly equal pictures are one, named after the first.

    So a burst of one part that stands still is one group; a part that was turned between two pictures is not.
    """

    def grey_of(row: int) -> NDArray[np.uint8]:
        return read_grey(dataset.dir / dataset.files[row])

    pairs = near_pairs(seen.digests, seen.hashes, seen.thumbs, grey_of).tolist()
    pairs += [[rows[0], row] for rows in exact_sets(seen.digests) for row in rows[1:]]
    one, other = np.array(pairs, np.int64).reshape(-1, 2).T
    links = coo_array((np.ones(len(one)), (one, other)), (len(dataset), len(dataset)))
    _, group = connected_components(links, directed=False)
    _, first = np.unique(group, return_index=True)
    return [dataset.files[first[number]] for number in group]


def read_logits(path: Path, pool: Pool, names: list[str]) -> NDArray[np.float32]:
    """Logits (n, classes) float32 of the pictures of a pool, in its order, from a table: file, and a column a class.

    Raises:
        BadInput: a column or a picture that is missing, a file twice, a value that is no number.
    """
    table = read_table(path)
    files = table.take_needed("file")
    missing = [name for name in names if name not in table.columns]
    if missing:
        raise BadInput(f"{path}: no column {missing[0]!r}; the logits of each class are needed: {', '.join(names)}")
    row_of = {file: row for row, file in enumerate(files)}
    if len(row_of) < len(files):
        raise BadInput(f"{path}: a file is listed twice")
    absent = [file for file in pool.files if file not in row_of]
    if absent:
        raise BadInput(f"{path}: {len(absent)} of {len(pool)} pictures of the pool are not in it, first {absent[0]}")
    try:
        values = np.array([[float(cell) for cell in table.columns[name]] for name in names], np.float32).T
    except ValueError as error:
        raise BadInput(f"{path}: a logit is no number: {error}") from error
    return values[[row_of[file] for file in pool.files]]


def write_list(path: Path, selection: Selection) -> None:
    """The list as csv, wholly or not at all."""
    write_whole(path, list_text(selection))


def copy_chosen(path: Path, selection: Selection, out: Path) -> None:
    """The chosen pictures of a pool in a new folder, under their names, with the list as manifest.csv: its column class
    is empty, to be filled in.

    Raises:
        BadInput: the folder is in use.
        NotWritable: the disk is full, read-only or forbids it.
    """
    sweep(out.parent, out.name)
    folder = path.parent if path.is_file() else path
    check_free(out, folder)
    with replacing(out) as made:
        for pick in selection.picks:
            (made / pick.file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(folder / pick.file, made / pick.file)
        (made / "manifest.csv").write_text(list_text(selection), encoding="utf-8")
        copy_roles(folder, made)


def _unlabelled(pool: Pool, task: str) -> tuple[Pool, int]:
    """The pictures without a class, where only some have one, and how many have; an empty class is an answer in the
    task "labels"."""
    classes = pool.column("class", "label")
    if classes is None or task == "labels" or all(classes):
        return pool, 0
    rows = [row for row, name in enumerate(classes) if not name]
    return pool.only(rows), len(pool) - len(rows)


def _unseen(run: Run, pool: Pool) -> tuple[Pool, int | None]:
    """The pictures that the run was not trained on, by their pixels: it is surer of those than of any to come."""
    try:
        trained = trained_on(run, _as_dataset(run, pool))
    except (BadInput, NotFound):
        return pool, None
    rows = [row for row in range(len(pool)) if row not in trained]
    if not rows:
        raise BadInput(f"{pool.dir}: the run was trained on all {len(pool)} pictures; give it a pool of others")
    return pool.only(rows), len(pool) - len(rows)


def _group_column(pool: Pool, column: str | None) -> str | None:
    if column is not None and column != EACH and column not in pool.columns:
        raise BadInput(f"{pool.dir}: no column {column!r}; it has {', '.join(pool.columns) or 'none'}")
    return column or next((name for name in ("group", "part") if any(pool.columns.get(name, []))), None)


def _as_dataset(run: Run, pool: Pool) -> Dataset:
    """The pool as the loaders want it; its labels say nothing."""
    return Dataset(
        dir=pool.dir,
        files=pool.files,
        labels=np.zeros(len(pool), np.int64),
        names=[label.name for label in run.labels],
        roles=[label.role for label in run.labels],
        groups=np.array(pool.files),
    )


def _look(dataset: Dataset, progress: Progress | None) -> Looks:
    seen, _, problems = look(dataset, features=True, progress=progress)
    if problems:
        more = "" if len(problems) == 1 else f" ({len(problems)} of {len(dataset)} pictures cannot be read)"
        raise BadInput(f"{problems[0]}{more}")
    return seen
