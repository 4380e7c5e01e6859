"""A drawn data set of metal parts: a folder per class, a manifest, and the same bytes from the same seed."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import numpy as np

from device_agent.contract.errors import BadInput
from device_agent.contract.files import replacing, sweep
from device_agent.frames.surface import FINISHES, KINDS, make_part, photograph
from toolkit.data.corruptions import corrupt
from toolkit.data.faults import CLEAN, Faults, encode_png
from toolkit.data.faults import COLUMNS as FAULT_COLUMNS
from toolkit.data.images import MANIFEST
from toolkit.paths import reading

Progress = Callable[[int, int], None]  # done, total
COLUMNS = ("file", "class", "group", "camera", "light", "product")


class SynthRecipe(msgspec.Struct, frozen=True, kw_only=True):
    """What is drawn: number of images, share of defective parts, side of an image in px, photographs of each part,
    how clearly its defects show (1 as they come, 2 twice as strong), and what spoils which share of the photographs."""

    images: int = 2000
    defects: float = 0.5
    size: int = 96
    seed: int = 0
    cameras: int = 2
    photos_per_part: int = 3
    product: int = 0
    contrast: float = 1.0
    faults: Faults | None = None


class SynthResult(msgspec.Struct, frozen=True, kw_only=True):
    """What was drawn: the folder, images and parts of each class."""

    path: str
    recipe: SynthRecipe
    images: dict[str, int]
    parts: dict[str, int]


def plan_parts(recipe: SynthRecipe) -> list[str]:
    """The kind of each part, in the order of drawing; the defects are shared out evenly and mixed in by the seed.

    >>> kinds = plan_parts(SynthRecipe(images=3000, defects=0.01))
    >>> len(kinds), kinds.count("good"), kinds.count("pit")
    (1000, 990, 3)

    Raises:
        BadInput: a number out of range, or too few parts for one of each kind.
    """
    limits = {"images": (2, 1_000_000), "size": (32, 1024), "cameras": (1, 16), "photos_per_part": (1, 100)}
    for name, (low, high) in limits.items():
        if not low <= getattr(recipe, name) <= high:
            raise BadInput(f"{name.replace('_', ' ')} must be {low} to {high}, got {getattr(recipe, name)}")
    if not 0 < recipe.defects < 1:
        raise BadInput(f"share of defects must be between 0 and 1, got {recipe.defects}")
    if recipe.seed < 0:
        raise BadInput(f"seed must be 0 or more, got {recipe.seed}")
    if not 0.1 <= recipe.contrast <= 10:
        raise BadInput(f"contrast must be 0.1 to 10, got {recipe.contrast:g}")
    if not 0 <= recipe.product < len(FINISHES):
        raise BadInput(f"product must be 0 to {len(FINISHES) - 1}, got {recipe.product}")
    parts = -(-recipe.images // recipe.photos_per_part)
    defective = round(parts * recipe.defects)
    if defective < len(KINDS) - 1 or defective == parts:
        raise BadInput(
            f"{recipe.images} images are {parts} parts, {defective} of them defective; at least one good part and one "
            f"of each of {len(KINDS) - 1} defects are needed: draw more images"
        )
    kinds = [KINDS[0]] * (parts - defective) + [KINDS[1 + place % (len(KINDS) - 1)] for place in range(defective)]
    return [kinds[place] for place in np.random.default_rng([recipe.seed, 0]).permutation(parts)]


def synthesize(out: Path, recipe: SynthRecipe, *, force: bool = False, progress: Progress | None = None) -> SynthResult:
    """Draw the data set into the folder `out`, which appears when it is whole, and not at all on an error.

    Raises:
        BadInput: the recipe does not fit, or `out` is a file, or holds something and `force` is not given.
        NotWritable: the disk is full, read-only or forbids it.
    """
    kinds = plan_parts(recipe)
    sweep(out.parent, out.name)
    _check_free(out, force)
    with replacing(out) as folder:
        for kind in KINDS:
            (folder / kind).mkdir(parents=True)
        table = io.StringIO()
        rows = csv.writer(table, lineterminator="\n")
        rows.writerow(COLUMNS if recipe.faults is None else COLUMNS + FAULT_COLUMNS)
        drawn = dict.fromkeys(KINDS, 0)
        for part, kind in enumerate(kinds):
            for row, png in _photographs(recipe, part, kind):
                (folder / row[0]).write_bytes(png)
                rows.writerow(row)
                drawn[kind] += 1
            if progress is not None:
                progress(sum(drawn.values()), recipe.images)
        (folder / MANIFEST).write_text(table.getvalue())
        (folder / "README.md").write_text(_readme(recipe))
    return SynthResult(path=str(out), recipe=recipe, images=drawn, parts={kind: kinds.count(kind) for kind in KINDS})


def _photographs(recipe: SynthRecipe, part: int, kind: str) -> Iterator[tuple[list[str], bytes]]:
    """Manifest row and png file of each photograph of one part; both depend on its number and the seed alone."""
    rng = np.random.default_rng([recipe.seed, 1, part])
    surface = make_part(rng, kind, size=recipe.size, product=recipe.product, contrast=recipe.contrast)
    first_camera = int(rng.integers(recipe.cameras))
    lamp = rng.normal(1.0, 0.07)
    group = f"p{part:06d}"
    for shot in range(min(recipe.photos_per_part, recipe.images - part * recipe.photos_per_part)):
        camera = (first_camera + shot) % recipe.cameras
        light = round(float(np.clip(lamp + rng.normal(0, 0.03), 0.75, 1.25)), 3)
        row = [f"{kind}/{group}-{shot}.png", kind, group, str(camera), str(light), str(recipe.product)]
        image = photograph(rng, surface, light=light, camera=camera)
        if recipe.faults is not None:
            own = np.random.default_rng([recipe.seed, 2, part, shot])  # apart from `rng`: the parts stay as they are
            fault = recipe.faults.draw(own)
            if fault != CLEAN:
                image = corrupt(image, *fault, own, lens=[recipe.seed, 3, camera])
            row += map(str, fault)
        yield row, encode_png(image)


def _check_free(out: Path, force: bool) -> None:
    """Refuse a file and a folder in use; with `force`, any folder that was not drawn by `synthesize`."""
    with reading(out):
        if out.exists() and not out.is_dir():
            raise BadInput(f"{out}: is a file; the data set needs a folder")
        if not out.is_dir() or not any(out.iterdir()):
            return
        manifest = out / MANIFEST
        header = manifest.read_text(errors="replace").partition("\n")[0] if manifest.is_file() else ""
        drawn = header in (",".join(COLUMNS), ",".join(COLUMNS + FAULT_COLUMNS))
    if not force:
        raise BadInput(f"{out}: is not empty; another folder, or --force to replace a drawn data set")
    if not drawn:
        raise BadInput(f"{out}: holds something else than a drawn data set, which --force does not delete")


def _readme(recipe: SynthRecipe) -> str:
    faults = recipe.faults
    options = "" if faults is None else f" --corrupt-share {faults.share:g}"
    options += "" if faults is None else "".join(f" --corrupt {fault}" for fault in faults.any_of)
    return (
        "# Drawn metal parts\n\nSource: none of these pictures is a photograph; `lineside data synth` drew them. "
        "They may be used without condition (CC0).\n\n"
        f"    lineside data synth OUT --images {recipe.images} --defects {recipe.defects} --size {recipe.size} "
        f"--seed {recipe.seed} --cameras {recipe.cameras} --photos-per-part {recipe.photos_per_part} "
        f"--product {recipe.product}{options}\n\n"
        "manifest.csv: file, class, group (the part; several photographs show the same one), camera, light (level of\n"
        "the lamp, 1 is normal), product. It holds no split: `lineside train` makes one by group and notes it in its\n"
        "run.\n"
        + ("" if faults is None else "corruption and severity (1 to 5) say what was done to the picture; none is 0.\n")
    )
