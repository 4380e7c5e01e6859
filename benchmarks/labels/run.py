"""How many labels flipped on purpose `data check` finds among the first 15 % of its ranking.

python benchmarks/labels/run.py [--only xsdd,ism,drawn] [--seeds 0,1,2] [--ism-images 4000] [--flip images] [--write]

10 % of the labels are flipped to another class at random, either image by image or in whole groups; what the check
finds is counted against these flips alone, so labels that were wrong before count as false suspects. X-SDD is also
judged with a backbone, where its weights are there; and every set with no label flipped, for the rate of false
suspects. Features are computed once for each data set. With --write the table goes to results.md.
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from device_agent.contract.files import write_whole
from toolkit.data.features import describe
from toolkit.data.images import open_dataset
from toolkit.data.looks import look
from toolkit.data.suspects import find_suspects
from toolkit.data.synth import SynthRecipe, synthesize

HERE = Path(__file__).parent
DATA = Path(os.environ.get("LINESIDE_DATA", "../shared/data"))
WEIGHTS = Path(os.environ.get("LINESIDE_WEIGHTS", "../shared/weights"))
BACKBONE = "keras/mobilenet_v2_1.0_224_tf2ptq_dequant_no_top.h5"
FLIPPED, AIM = 0.10, 0.80
CACHE = Path(tempfile.gettempdir()) / "lineside-labels"
HEAD = """# Labels flipped on purpose

Measured by `python benchmarks/labels/run.py --write` on {machine}, {cores} cores that were shared, Python {python}.
10 % of the labels were flipped to another class at random; hits are counted against these flips alone. Marked: by
confident learning as wrong. Without flips, the share marked is that of false suspects, or of labels that were wrong
before. The time is without that of the features.

"""


def flip(
    labels: NDArray[np.int64], groups: NDArray[np.str_], classes: int, seed: int, *, whole: bool
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Labels of which about FLIPPED are another class at random, and which; with `whole`, all of a group alike."""
    rng = np.random.default_rng([seed, whole])
    out, flipped = labels.copy(), np.zeros(len(labels), bool)
    for unit in rng.permutation(np.unique(groups)) if whole else rng.permutation(len(labels)):
        if flipped.sum() >= round(FLIPPED * len(labels)):
            break
        rows = groups == unit if whole else [unit]
        out[rows] = (labels[rows] + rng.integers(1, classes)) % classes
        flipped[rows] = True
    return out, flipped


def measure(
    views: list[NDArray[np.floating]], labels: NDArray[np.int64], groups: NDArray[np.str_], seed: int, how: str
) -> tuple[float, float, float]:
    """Share of the flips in the first 15 %, share of them that confident learning marks, share of the others that it
    marks."""
    classes = int(labels.max()) + 1
    given, flipped = labels, np.zeros(len(labels), bool)
    if how != "nothing":
        given, flipped = flip(labels, groups, classes, seed, whole=how == "groups")
    names, files = [str(each) for each in range(classes)], [str(row) for row in range(len(labels))]
    doubt, _ = find_suspects(views, given, groups, names, files, seed=seed)
    listed, sure = np.zeros(len(labels), bool), np.zeros(len(labels), bool)
    for each in doubt.suspects:
        listed[each.row], sure[each.row] = True, each.confident
    if not flipped.any():
        return float("nan"), float("nan"), float(sure.mean())
    return float(listed[flipped].mean()), float(sure[flipped].mean()), float(sure[~flipped].mean())


Set = tuple[str, list[NDArray[np.floating]], NDArray[np.int64], NDArray[np.str_]]


def sets(only: list[str], ism_images: list[int]) -> Iterator[Set]:
    """Name, views of features, labels and groups of each data set."""
    CACHE.mkdir(exist_ok=True)
    if "xsdd" in only and (DATA / "xsdd").is_dir():
        plain, labels, groups = _cached("xsdd", lambda: _folder(DATA / "xsdd"))
        yield "X-SDD", [plain], labels, groups
        if (WEIGHTS / BACKBONE).is_file():
            deep, _, _ = _cached("xsdd-v2", _backbone)
            yield "X-SDD, and V2 1.0", [plain, deep], labels, groups
    if "ism" in only and (DATA / "ism/ism_full.npz").is_file():
        for count in ism_images:
            plain, labels, groups = _cached(f"ism-{count}", lambda count=count: _ism(count))
            yield f"ISM, {count} images", [plain], labels, groups
    if "drawn" in only:
        plain, labels, groups = _cached("drawn", _drawn)
        yield "drawn, 1500 images", [plain], labels, groups


def _cached(name: str, make: object) -> tuple[NDArray[np.floating], NDArray[np.int64], NDArray[np.str_]]:
    path = CACHE / f"{name}.npz"
    if not path.exists():
        features, labels, groups = make()  # type: ignore[operator]
        np.savez(path, features=features, labels=labels, groups=groups)
    with np.load(path) as stored:
        return stored["features"], stored["labels"], stored["groups"]


def _folder(folder: Path) -> tuple[object, object, object]:
    dataset = open_dataset(folder)
    looks, _, _ = look(dataset, features=True)
    return looks.features, dataset.labels, dataset.groups


def _backbone() -> tuple[object, object, object]:
    from toolkit.models.architecture import Architecture
    from toolkit.models.features import backbone_features

    dataset = open_dataset(DATA / "xsdd")
    architecture = Architecture(family="mobilenet-v2", alpha=1.0, size=128)
    return backbone_features(dataset, architecture, str(WEIGHTS / BACKBONE)), dataset.labels, dataset.groups


def _ism(count: int) -> tuple[object, object, object]:
    with np.load(DATA / "ism/ism_full.npz") as stored:
        images, labels = stored["images"], stored["labels"].astype(np.int64)
    rows = np.random.default_rng(0).permutation(len(labels))[:count]
    features = np.stack([describe(np.repeat(images[row][:, :, None], 3, axis=2)) for row in rows])
    return features, labels[rows], rows.astype(str)


def _drawn() -> tuple[object, object, object]:
    with tempfile.TemporaryDirectory() as folder:
        synthesize(Path(folder) / "parts", SynthRecipe(images=1500))
        return _folder(Path(folder) / "parts")


def main() -> None:
    """Print the table line by line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="xsdd,ism,drawn")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--ism-images", default="4000,12000")
    parser.add_argument("--flip", default="nothing,images,groups")
    parser.add_argument("--write", action="store_true")
    asked = parser.parse_args()
    seeds = [int(seed) for seed in asked.seeds.split(",")]
    lines = [
        "| data | flipped | seed | flips in the first 15 % | flips marked | others marked | s |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    print(*lines, sep="\n", flush=True)
    for name, views, labels, groups in sets(
        asked.only.split(","), [int(count) for count in asked.ism_images.split(",")]
    ):
        single = len(np.unique(groups)) == len(groups)
        for how in asked.flip.split(","):
            if single and how == "groups":
                continue
            shares = []
            for seed in seeds if how != "nothing" else seeds[:1]:
                start = time.monotonic()
                found, marked, false = measure(views, labels, groups, seed, how)
                shares.append(found)
                cells = [name, how, str(seed), _percent(found), _percent(marked), _percent(false)]
                lines.append(f"| {' | '.join(cells)} | {time.monotonic() - start:.0f} |")
                print(lines[-1], flush=True)
            if how != "nothing":
                met = "met" if min(shares) >= AIM else "met on average" if np.mean(shares) >= AIM else "not met"
                lines.append(
                    f"| {name} | {how} | mean | **{_percent(float(np.mean(shares)))}** | | | {AIM:.0%}: {met} |"
                )
                print(lines[-1], flush=True)
    if asked.write:
        head = HEAD.format(machine=platform.machine(), cores=os.cpu_count(), python=platform.python_version())
        write_whole(HERE / "results.md", head + "\n".join(lines) + "\n")


def _percent(share: float) -> str:
    return "" if share != share else f"{share:.1%}"


if __name__ == "__main__":
    main()
