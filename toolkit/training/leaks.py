"""What a training learns from, a teacher or given weights, must not know what the training is judged on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from device_agent.contract.errors import BadInput, LinesideError
from toolkit.data.images import Dataset, open_dataset, pixel_digests
from toolkit.runs import Place, Run, open_run, read_split


def weights_notes(weights: str | None, dataset: Dataset, split: NDArray[np.str_]) -> list[str]:
    """`leak_notes` of the run that a file of weights lies in, if it lies in one.

    Raises:
        BadInput: as there; a run that is damaged or was not trained to its end.
    """
    folder = Path(weights or "").parent
    if weights in (None, "imagenet") or not (folder / "run.json").is_file():
        return []
    return leak_notes(open_run(folder), dataset, split)


def leak_notes(run: Run, dataset: Dataset, split: NDArray[np.str_]) -> list[str]:
    """Refuse a run to learn from that knows the validation or test images of this training; what could not be compared,
    a sentence each.

    What learns from a run inherits what that has seen, and a figure on such images would not hold on the line. The test
    images must be new to the run altogether, those of validation may be its own validation images too.

    Raises:
        BadInput: it was taught on images, or parts, that are judged on here.
    """
    places = read_split(run.dir / "split.csv", run.record.split_sha256)
    source = run.data
    folder = source.parent if source.is_file() else source  # a manifest that was named
    unknown = f"{run.dir}: whether it was taught the test images of this training cannot be found out"
    try:
        same = folder.resolve() == dataset.dir.resolve()
        known, gone = _by_name(places, dataset) if same else _by_pixels(places, source, dataset)
    except LinesideError as error:
        return [f"{unknown}: {error}"]
    notes = [f"{unknown} for {gone} of its {len(places)} images, which are gone from {folder}"] if gone else []
    for name, forbidden in (("test", ("train", "val")), ("val", ("train",))):
        leaks = [row for row in np.flatnonzero(split == name) if known[row] & set(forbidden)]
        if leaks:
            raise BadInput(
                f"{run.dir}: was taught on {len(leaks)} images, or on parts, of this training's {name} split, "
                f"first {dataset.files[leaks[0]]}: no figure would hold; give both the same --split-seed"
            )
    return notes


def _by_name(places: dict[str, Place], dataset: Dataset) -> tuple[list[set[str]], int]:
    """In which splits of the run each image, or another of its group, was; how many of the run's are gone."""
    of_group: dict[str, set[str]] = {}
    for place in places.values():  # those that are not here, too
        of_group.setdefault(place.group, set()).add(place.split)
    for file, group in zip(dataset.files, dataset.groups, strict=True):
        if file in places:
            of_group.setdefault(str(group), set()).add(places[file].split)
    gone = sum(not (dataset.dir / file).exists() for file in places)
    return [of_group.get(str(group), set()) for group in dataset.groups], gone


def _by_pixels(places: dict[str, Place], source: Path, dataset: Dataset) -> tuple[list[set[str]], int]:
    """The same where the run's images lie elsewhere, in the folder or manifest `source`: by equal pixels."""
    theirs = open_dataset(source)
    seen: dict[bytes, set[str]] = {}
    for file, digest in zip(theirs.files, theirs.pixels or [], strict=True):
        if file in places:
            seen.setdefault(digest, set()).add(places[file].split)
    ours = dataset.pixels if dataset.pixels is not None else pixel_digests(dataset)
    of_group: dict[str, set[str]] = {}
    for group, pixels in zip(dataset.groups, ours, strict=True):
        if isinstance(pixels, BadInput):
            raise pixels
        of_group.setdefault(str(group), set()).update(seen.get(pixels, set()))
    gone = len(places.keys() - set(theirs.files))
    return [of_group[str(group)] for group in dataset.groups], gone
