"""How far other libraries' preprocessing is from lineside's, in steps of 255 and in the answers of trained models.

python benchmarks/preprocess/run.py RUN [RUN ...] [--write]    with --write also results.md

RUN is a trained run with the artifact litert-fp32, for what a difference does to the logits. Pictures are every seventh
of X-SDD; a run whose input is as large as they are gets their middle, 96 x 96, so that there is something to resize.
No seeds: nothing is drawn but the noise for grey.
"""

from __future__ import annotations

import argparse
import os
import platform
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from resizers import Image, Resize, Size, resizers

from device_agent import preprocess
from device_agent.contract.files import write_whole
from device_agent.contract.manifest import InputSpec
from device_agent.frames.folder import list_images
from device_agent.frames.picture import read_picture
from device_agent.measure import device_name
from device_agent.runtimes import logits
from toolkit.artifacts import open_artifact
from toolkit.runs import Run, open_run

HERE = Path(__file__).parent
DATA = Path(os.environ.get("LINESIDE_DATA", "../shared/data")) / "xsdd"
SIZES: dict[str, Size] = {
    "to 64 x 64": (64, 64),
    "to 96 x 96": (96, 96),
    "to 51 x 77": (51, 77),
    "to 32 x 32": (32, 32),
    "to 224 x 224": (224, 224),
}
EVERY, MIDDLE = 7, 96


class Steps(NamedTuple):
    """Difference of two preprocessings in steps of 255: of the mean value, and the largest of all."""

    mean: float
    largest: int


class Effect(NamedTuple):
    """What a difference does to logits: the mean and the largest change as a share of their spread, and the pictures
    that get another class."""

    mean: float
    largest: float
    flips: int


def steps(ours: list[Image], theirs: list[Image]) -> Steps:
    """The difference over all values of all pictures."""
    off = [np.abs(a.astype(int) - b) for a, b in zip(ours, theirs, strict=True)]
    return Steps(float(np.mean([each.mean() for each in off])), int(max(each.max() for each in off)))


def effect(ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> Effect:
    """The difference of logits (n, classes), each picture's mean taken off."""
    a, b = (each - each.mean(axis=1, keepdims=True) for each in (ours, theirs))
    off = np.abs(a - b) / a.std()
    return Effect(float(off.mean()), float(off.max()), int((a.argmax(axis=1) != b.argmax(axis=1)).sum()))


def fit(picture: Image, size: Size) -> Image:
    """What lineside makes of it."""
    return preprocess.fit(picture, InputSpec(height=size[0], width=size[1]))


def pictures() -> list[Path]:
    """Every seventh file of X-SDD."""
    return [item.path for item in list_images(DATA)][::EVERY]


def answers(run: Run, images: list[Image]) -> NDArray[np.float64]:
    """Logits (n, classes) of the artifact litert-fp32 for fitted images."""
    model = open_artifact(run, "litert-fp32").open(run.record.input)
    try:
        return np.array([logits(model, image) for image in images], np.float64)
    finally:
        model.close()


def frames_for(run: Run, whole: list[Image]) -> list[Image]:
    """The pictures, or their middle where the run's input is as large."""
    height, width = whole[0].shape[:2]
    if run.record.input.height < height:
        return whole
    top, left = (height - MIDDLE) // 2, (width - MIDDLE) // 2
    return [picture[top : top + MIDDLE, left : left + MIDDLE] for picture in whole]


def pixel_table(whole: list[Image], ways: dict[tuple[str, str], Resize]) -> list[str]:
    """Steps of each way at each size, mean and largest."""
    lines = [f"| library | mode | {' | '.join(SIZES)} |", f"| --- | --- |{' --- |' * len(SIZES)}"]
    for (library, mode), resize in ways.items():
        cells = []
        for size in SIZES.values():
            found = steps([fit(each, size) for each in whole], [resize(each, size) for each in whole])
            cells.append(f"{found.mean:.2f} / {found.largest}")
        lines.append(f"| {library} | {mode} | {' | '.join(cells)} |")
    return lines


def logit_table(runs: list[Run], whole: list[Image], ways: dict[tuple[str, str], Resize]) -> list[str]:
    """What each way does to the answers of each run, and so do the other settings."""
    heads, columns = [], []
    for run in runs:
        spec, frames = run.record.input, frames_for(run, whole)
        size = (spec.height, spec.width)
        ours = answers(run, [fit(each, size) for each in frames])
        changes: dict[tuple[str, str], Callable[[Image], Image]] = {
            way: (lambda frame, resize=resize, size=size: resize(frame, size)) for way, resize in ways.items()
        }
        changes |= {(what, how): (lambda frame, f=f, size=size: f(fit(frame, size))) for what, how, f in SETTINGS}
        columns.append({way: effect(ours, answers(run, [f(each) for each in frames])) for way, f in changes.items()})
        heads.append(f"{frames[0].shape[0]} to {size[0]}, {run.record.family} {run.record.alpha:g}")
    lines = [f"| library | mode | {' | '.join(heads)} |", f"| --- | --- |{' --- |' * len(heads)}"]
    for library, mode in columns[0]:
        found = [column[library, mode] for column in columns]
        cells = [f"{each.mean:.4f} / {each.largest:.3f} / {each.flips}" for each in found]
        lines.append(f"| {library} | {mode} | {' | '.join(cells)} |")
    return lines


SETTINGS: list[tuple[str, str, Callable[[Image], Image]]] = [
    ("colour", "BGR for RGB", lambda image: np.ascontiguousarray(image[:, :, ::-1])),
    ("crop", "one pixel to the right", lambda image: np.roll(image, 1, axis=1)),
    ("values", "one step brighter", lambda image: np.clip(image.astype(int) + 1, 0, 255).astype(np.uint8)),
    ("values", "0 to 1 for -1 to 1", lambda image: (128 + image // 2).astype(np.uint8)),
]


def decoders() -> dict[str, Callable[[bytes], Image]]:
    """Other readers of a jpeg (imports TensorFlow)."""
    import io

    import tensorflow as tf

    return {
        "Pillow": lambda data: np.asarray(Pillow.open(io.BytesIO(data)).convert("RGB"), np.uint8),
        "TensorFlow, default": lambda data: tf.io.decode_jpeg(data, channels=3).numpy(),
        "TensorFlow, INTEGER_ACCURATE": lambda data: tf.io.decode_jpeg(
            data, channels=3, dct_method="INTEGER_ACCURATE"
        ).numpy(),
    }


def greys() -> dict[str, Callable[[Image], Image]]:
    """Other ways to grey (imports TensorFlow)."""
    import tensorflow as tf

    return {
        "OpenCV, cvtColor": lambda image: np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8),
        "Pillow, convert L": lambda image: np.asarray(Pillow.fromarray(image).convert("L"), np.uint8),
        "TensorFlow, rgb_to_grayscale": lambda image: tf.image.rgb_to_grayscale(image).numpy()[:, :, 0],
    }


def colour_noise() -> list[Image]:
    """X-SDD is grey: colours to grey anew are these 16 of noise."""
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (64, 64, 3), np.uint8) for _ in range(16)]


def small_table(files: list[Path]) -> list[str]:
    """Decoding and greying."""
    jpegs = [path for path in files if path.suffix.lower() in (".jpg", ".jpeg")]
    lines = ["| step | library | mean / largest |", "| --- | --- | --- |"]
    for name, decode in decoders().items():
        found = steps([read_picture(path) for path in jpegs], [decode(path.read_bytes()) for path in jpegs])
        lines.append(f"| jpeg | {name} | {found.mean:.3f} / {found.largest} |")
    spec = InputSpec(height=64, width=64, channels=1, colour_order="grey")
    images = colour_noise()
    for name, grey in greys().items():
        found = steps([preprocess.fit(each, spec)[:, :, 0] for each in images], [grey(each) for each in images])
        lines.append(f"| grey | {name} | {found.mean:.3f} / {found.largest} |")
    return lines


def page(runs: list[Run]) -> str:
    """results.md."""
    files, ways = pictures(), resizers()
    whole = [read_picture(path) for path in files]
    names = ("opencv-python-headless", "pillow", "tensorflow-cpu", "ai-edge-litert", "numpy")
    made = ", ".join(f"{name} {version(name)}" for name in names)
    height, width = whole[0].shape[:2]
    return "\n".join(
        [
            "# How far is other preprocessing from lineside's?",
            "",
            f"`python benchmarks/preprocess/run.py RUN [RUN ...] --write`. {len(whole)} pictures of X-SDD, {height} x "
            f"{width}, every seventh. No seeds.",
            f"Measured on {device_name()}, Python {platform.python_version()}, {made}.",
            "",
            "lineside takes the area where both sides shrink and bilinear with half-pixel centres otherwise, through",
            "OpenCV where it is installed. A largest difference of 1 is rounding: OpenCV rounds a half up where both",
            "sides are halved and to even elsewhere, and computes bilinear in fixed point.",
            "",
            "## Pixels",
            "",
            "Difference from lineside's in steps of 255: mean / largest.",
            "",
            *pixel_table(whole, ways),
            "",
            *small_table(files),
            "",
            "X-SDD is grey, so grey was measured on colour noise.",
            "",
            "## Answers",
            "",
            "Change of the logits of litert-fp32 as a share of their spread: mean / largest / pictures of "
            f"{len(whole)} with another class.",
            "The pictures are not held out: this is about change, not accuracy. X-SDD is grey, so the order of colours",
            "changes nothing here.",
            "",
            *logit_table(runs, whole, ways),
            "",
        ]
    )


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    text = page([open_run(path) for path in options.runs])
    print(text)
    if options.write:
        write_whole(HERE / "results.md", text)


if __name__ == "__main__":
    main()
