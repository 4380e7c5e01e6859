"""How an artifact bears what goes wrong with pictures on a line, through the device's own preprocessing and runtime.

RUN/robustness/<artifact>.json and .png
RUN/robustness/answers/<artifact>/<kind>-<severity>.npz    answers that were given, so that an interrupted run goes on
"""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from device_agent.contract.errors import BadInput
from device_agent.contract.files import write_whole
from device_agent.frames.picture import read_picture
from device_agent.preprocess import fit
from device_agent.runtimes import Runtime
from device_agent.runtimes import logits as logits_of
from toolkit.artifacts import open_artifact
from toolkit.data.corruptions import KINDS, SEVERITIES, check, corrupt
from toolkit.evaluation.answers import Answers, answers_of, check_logits
from toolkit.evaluation.intervals import Interval, drawn_interval, group_bootstrap, index_groups, typical_size
from toolkit.evaluation.metrics import macro_f1
from toolkit.runs import Run

SCHEMA = "1.0"
DRAWS = 400
Progress = Callable[[int, int], None]


class Condition(msgspec.Struct, frozen=True, kw_only=True):
    """Figures under one condition, in [0, 1]; `error` is the share of wrong answers. `defect_recall` is the share of
    the defects that were called a defect of any kind, None where no class is good or no image is a defect."""

    kind: str
    severity: int
    error: float
    macro_f1: float
    defect_recall: float | None


class KindMean(msgspec.Struct, frozen=True, kw_only=True):
    """Means over the severities of one kind. `times` is the mean error over the clean error, None without a clean
    error."""

    kind: str
    error: float
    macro_f1: float
    defect_recall: float | None
    times: float | None


class Robustness(msgspec.Struct, frozen=True, kw_only=True):
    """Figures of an artifact on corrupted validation images, in [0, 1], measured; intervals are 95 %, over groups.

    `mean_error` is the mean over kinds and severities, `added_error` what it lies above the clean error. `relative` is
    the mean over kinds of mean error / clean error: like mCE (Hendrycks and Dietterich 2019), with the model's own
    clean error in place of AlexNet's; None where no clean answer is wrong.
    """

    schema: str = SCHEMA
    artifact: str
    artifact_sha256: str
    data_sha256: str
    images: int
    groups: int
    kinds: list[str]
    severities: list[int]
    clean: Condition
    clean_interval: Interval
    conditions: list[Condition]
    by_kind: list[KindMean]
    mean_error: float
    mean_error_interval: Interval
    mean_macro_f1: float
    mean_defect_recall: float | None
    added_error: float
    relative: float | None
    seed: int
    provenance: Literal["measured"] = "measured"


def measure_robustness(
    run: Run,
    name: str,
    *,
    kinds: Sequence[str] = tuple(KINDS),
    severities: Sequence[int] = SEVERITIES,
    seed: int = 0,
    threads: int = 1,
    progress: Progress | None = None,
) -> Robustness:
    """Corrupt every validation picture as it was taken, fit it as the device does, and ask the artifact.

    A picture gets the same random draws at every severity of a kind. Answers are kept in the run after each condition.

    Raises:
        NotFound: the artifact or the data are not there.
        BadInput: no such kind or severity.
        ParityFailed: logits that are not finite.
    """
    if not kinds or not severities:
        raise BadInput("no kind or no severity of corruption to measure under")
    for kind in kinds:
        for severity in severities:
            check(kind, severity)
    clean = answers_of(run, name, "val", threads=threads)
    artifact, done, total = open_artifact(run, name), 0, len(kinds) * len(severities) * len(clean.files)
    found: dict[tuple[str, int], NDArray[np.float32]] = {}
    key = f"{artifact.sha256} {run.record.data_sha256} {run.record.split_sha256} {clean.runtime_version} {seed}"
    runtime: Runtime | None = None
    try:
        for kind in kinds:
            for severity in severities:
                path = run.dir / "robustness" / "answers" / name / f"{kind}-{severity}.npz"
                logits = _read(path, key, clean.logits.shape)
                if logits is None:
                    runtime = runtime or artifact.open(run.record.input, threads=threads)
                    logits = _ask(run, runtime, clean.files, kind, severity, seed)
                    check_logits(logits, len(run.labels), where=f"{run.dir}: {name} under {kind} {severity}")
                    _write(path, key, logits)
                found[kind, severity] = logits
                done += len(clean.files)
                if progress is not None:
                    progress(done, total)
    finally:
        if runtime is not None:
            runtime.close()
    return _summarize(run, name, artifact.sha256, clean, found, seed)


def _ask(run: Run, runtime: Runtime, files: list[str], kind: str, severity: int, seed: int) -> NDArray[np.float32]:
    folder = run.dataset().dir
    out = np.empty((len(files), runtime.classes), np.float32)
    for row, file in enumerate(files):
        rng = np.random.default_rng([seed, zlib.crc32(f"{kind} {file}".encode())])
        picture = corrupt(read_picture(folder / file), kind, severity, rng, lens=seed)
        out[row] = logits_of(runtime, fit(picture, run.record.input))
    return out


def _summarize(
    run: Run,
    name: str,
    sha256: str,
    clean: Answers,
    found: dict[tuple[str, int], NDArray[np.float32]],
    seed: int,
) -> Robustness:
    good = np.array([label.role == "good" for label in run.labels])

    def condition(kind: str, severity: int, logits: NDArray[np.float32]) -> Condition:
        said = logits.argmax(axis=1)
        defects = ~good[clean.labels]
        recall = float(np.mean(~good[said[defects]])) if good.any() and defects.any() else None
        return Condition(
            kind=kind,
            severity=severity,
            error=float(np.mean(said != clean.labels)),
            macro_f1=macro_f1(clean.labels, said),
            defect_recall=recall,
        )

    conditions = [condition(kind, severity, logits) for (kind, severity), logits in found.items()]
    plain = condition("clean", 0, clean.logits)
    by_kind = [_mean(kind, conditions, plain.error) for kind in dict.fromkeys(kind for kind, _ in found)]
    accuracy, _ = group_bootstrap(
        clean.labels, clean.logits.argmax(axis=1), clean.groups, len(good), rng=np.random.default_rng(0)
    )
    wrong = np.mean([logits.argmax(axis=1) != clean.labels for logits in found.values()], axis=0)
    times = [one.times for one in by_kind if one.times is not None]
    recalls = [one.defect_recall for one in conditions if one.defect_recall is not None]
    mean_error = float(wrong.mean())
    return Robustness(
        artifact=name,
        artifact_sha256=sha256,
        data_sha256=run.record.data_sha256,
        images=len(clean.labels),
        groups=len(np.unique(clean.groups)),
        kinds=list(dict.fromkeys(kind for kind, _ in found)),
        severities=sorted({severity for _, severity in found}),
        clean=plain,
        clean_interval=(1 - accuracy[1], 1 - accuracy[0]),
        conditions=conditions,
        by_kind=by_kind,
        mean_error=mean_error,
        mean_error_interval=mean_interval(wrong, clean.groups, rng=np.random.default_rng(0)),
        mean_macro_f1=float(np.mean([one.macro_f1 for one in conditions])),
        mean_defect_recall=float(np.mean(recalls)) if recalls else None,
        added_error=mean_error - plain.error,
        relative=float(np.mean(times)) if times else None,
        seed=seed,
    )


def _mean(kind: str, conditions: list[Condition], clean_error: float) -> KindMean:
    here = [one for one in conditions if one.kind == kind]
    error = float(np.mean([one.error for one in here]))
    recalls = [one.defect_recall for one in here if one.defect_recall is not None]
    return KindMean(
        kind=kind,
        error=error,
        macro_f1=float(np.mean([one.macro_f1 for one in here])),
        defect_recall=float(np.mean(recalls)) if recalls else None,
        times=error / clean_error if clean_error else None,
    )


def mean_interval(
    values: NDArray[np.floating], groups: NDArray[np.generic], *, rng: np.random.Generator, draws: int = DRAWS
) -> Interval:
    """95 % interval of the mean of values (n,) in [0, 1], by a Bayesian bootstrap over groups (Rubin 1981) with half a
    typical group of ones and half a one of zeros as the prior.

    >>> low, high = mean_interval(np.full(100, 0.5), np.arange(100), rng=np.random.default_rng(0))
    >>> low < 0.5 < high
    True
    """
    group = index_groups(groups)
    sizes = np.bincount(group).astype(np.float64)
    sums = np.bincount(group, values)
    weights = rng.standard_gamma(1.0, (draws, len(sizes)))
    ones, zeros = typical_size(sizes) * rng.standard_gamma(0.5, (2, draws))
    drawn = (weights @ sums + ones) / (weights @ sizes + ones + zeros)
    return drawn_interval(float(np.mean(values)), drawn)


def _read(path: Path, key: str, shape: tuple[int, ...]) -> NDArray[np.float32] | None:
    try:
        with np.load(path, allow_pickle=False) as kept:
            logits, found = kept["logits"], str(kept["key"])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    return np.asarray(logits, np.float32) if found == key and logits.shape == shape else None


def _write(path: Path, key: str, logits: NDArray[np.float32]) -> None:
    content = io.BytesIO()
    np.savez(content, logits=logits, key=np.array(key))
    write_whole(path, content.getvalue())


def save_robustness(run: Run, result: Robustness) -> Path | None:
    """Write the result and its heat maps into the run, each wholly or not at all; the path of the result, None where
    one that has the same conditions and more is there already: a second look at a few does not replace the whole.

    Raises:
        NotWritable: the disk is full or read-only.
    """
    path = run.dir / "robustness" / f"{result.artifact}.json"
    if _is_part(result, path):
        return None
    write_whole(path, msgspec.json.format(msgspec.json.encode(result, order="sorted"), indent=2) + b"\n")
    plot_robustness(path.with_suffix(".png"), result)
    return path


def _is_part(result: Robustness, path: Path) -> bool:
    """Whether the file has all conditions of the result, measured alike, and more."""
    try:
        whole = msgspec.json.decode(path.read_bytes(), type=Robustness)
    except (OSError, msgspec.MsgspecError):
        return False
    alike = all(
        getattr(whole, name) == getattr(result, name) for name in ("artifact_sha256", "data_sha256", "images", "seed")
    )
    has, asked = ({(one.kind, one.severity) for one in each.conditions} for each in (whole, result))
    return alike and asked < has


def plot_robustness(path: Path, result: Robustness) -> None:
    """Write a PNG: macro-F1, and recall of defects where there is a good class, for each kind and severity."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    maps = {"macro-F1 %": "macro_f1"}
    if result.clean.defect_recall is not None:
        maps["recall of defects %"] = "defect_recall"
    figure = Figure(figsize=(2 + 4 * len(maps), 1.6 + 0.32 * len(result.kinds)), layout="constrained")
    FigureCanvasAgg(figure)
    value_of = {(one.kind, one.severity): one for one in result.conditions}
    for axes, (title, field) in zip(figure.subplots(1, len(maps), squeeze=False)[0], maps.items(), strict=True):
        grid = np.array(
            [
                [100 * (getattr(value_of[kind, severity], field) or 0.0) for severity in result.severities]
                for kind in result.kinds
            ]
        )
        axes.imshow(grid, cmap="RdYlGn", vmin=0, vmax=100, aspect="auto")
        for (row, column), value in np.ndenumerate(grid):
            axes.text(column, row, f"{value:.0f}", ha="center", va="center", fontsize=7)
        axes.set_xticks(range(len(result.severities)), [str(severity) for severity in result.severities])
        axes.set_yticks(range(len(result.kinds)), result.kinds, fontsize=8)
        axes.set_title(f"{title}, clean {100 * (getattr(result.clean, field) or 0):.1f}", fontsize=9)
        axes.set_xlabel("severity")
    figure.suptitle(f"{result.artifact}: {result.images} validation images, corrupted", fontsize=10)
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=120, metadata={"Software": None})
    write_whole(path, content.getvalue())
