"""The options of `lineside train`, by subject. What is not given is left to a recipe file, to auto, or to defaults."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

Option = tuple[tuple[str, ...], dict[str, Any]]
FAMILIES = (
    "mobilenet-v1, mobilenet-v2, mobilenet-v3-small, mobilenet-v3-large, resnet-50, efficientnet-b0, vit-tiny, or "
    "MODULE:FUNCTION for one's own"
)


def _option(*names: str, **settings: Any) -> Option:
    return names, settings


def _choice(*names: str) -> click.Choice[str]:
    return click.Choice(names)


RUN = [
    _option("--out", required=True, type=click.Path(path_type=Path), help="Folder of the run."),
    _option("--fresh", is_flag=True, help="Start over, whatever the run folder holds of a run."),
    _option("--replace", is_flag=True, help="Start over where the images or the recipe are others; else go on."),
    _option("--seed", type=int, help="Seed of the weights and the order; default 0."),
    _option("--split-seed", type=click.IntRange(0, 2**31 - 1), help="Seed of the split; default that of --seed."),
    _option(
        "--split",
        "split_file",
        type=click.Path(path_type=Path),
        help="A file of lineside data split; default split.csv where it lies with the images.",
    ),
    _option("--fold", type=int, metavar="K", help="Fold of the split file that is the test split; the next validates."),
    _option(
        "--trigger", metavar="FILE", type=click.Path(path_type=Path), help="What the fleet asked for; trained once."
    ),
    _option(
        "--trigger-key",
        metavar="FILE",
        type=click.Path(path_type=Path),
        help="signing.pub of the fleet's keys: a trigger that it has not signed is refused.",
    ),
    _option("--prevalence", metavar="CLASS=SHARE,...", help="Share of classes on the line; the rest is spread evenly."),
    _option(
        "--distribute",
        type=_choice("one", "mirrored", "multi-worker"),
        default="one",
        show_default=True,
        help="All devices of this machine, or, with TF_CONFIG, of several; the chief writes.",
    ),
    _option(
        "--mlflow", metavar="URI|FOLDER", help="Also report to an MLflow server or folder; TensorBoard is always there."
    ),
]
RECIPE = [
    _option(
        "--recipe",
        metavar="FILE.toml|auto",
        help="A recipe from a file, or chosen by the data; other options stand above it.",
    ),
]
MODEL = [
    _option("--model", metavar="FAMILY", help=f"{FAMILIES}; default mobilenet-v2."),
    _option("--width", type=float, help="Width multiplier of a MobileNet; default 0.35."),
    _option("--size", metavar="PX|HxW", help="Side of the input in px, or height x width; default 96."),
    _option("--weights", metavar="PATH|imagenet", help="Pretrained backbone; without it, training is from scratch."),
    _option(
        "--head",
        type=_choice("pooled", "bilinear", "attention", "parts"),
        help="What makes features of the last map; all but pooled are for fine-grained classes.",
    ),
    _option("--minimalistic", is_flag=True, default=None, help="V3 without squeeze-and-excite and 5x5 kernels."),
    _option("--activation", type=_choice("hard-silu", "silu", "relu"), help="V3: silu is faster in int8."),
    _option("--dropout", type=float, help="Before the last layer; default 0.1 from scratch, 0 with --weights."),
]
TASK = [
    _option(
        "--task",
        type=_choice("classes", "labels", "hierarchy"),
        help="One class an image, several marks, or good against defect and then the kind; default classes.",
    ),
    _option(
        "--loss",
        type=_choice("class-balanced", "cross-entropy", "focal", "logit-adjusted", "asymmetric"),
        help="Default class-balanced: every class counts alike, within limits.",
    ),
    _option("--focal-gamma", type=float, help="Exponent of focal; default 2."),
    _option("--adjust-tau", type=float, help="Strength of logit-adjusted; default 1."),
    _option("--smoothing", type=float, help="Of the labels, 0 to 0.5; default 0."),
    _option(
        "--sampling",
        type=_choice("natural", "balanced", "oversample", "undersample"),
        help="How often a class is seen; default natural.",
    ),
    _option(
        "--smote", is_flag=True, default=None, help="Draw features between neighbours of rare classes, for the probe."
    ),
]
STEPS = [
    _option("--epochs", type=int, help="Default 40 from scratch, 8 with --weights; 0 is the probe alone."),
    _option("--batch", type=int, help="Images in a step, on all devices together; default 32."),
    _option(
        "--optimizer", type=_choice("adamw", "sgd", "rmsprop", "lamb", "lion"), help="Default adamw; sgd with Nesterov."
    ),
    _option(
        "--lr", type=float, help="Peak learning rate; default 3e-3 from scratch, 1e-4 with --weights; sgd 15 times."
    ),
    _option("--momentum", type=float, help="Of sgd and rmsprop; default 0.9."),
    _option("--decay", type=float, help="Weight decay; default 1e-4."),
    _option("--schedule", type=_choice("cosine", "step", "plateau"), help="How the rate falls; default cosine."),
    _option(
        "--stop-on",
        type=_choice("macro-f1", "accuracy", "balanced-accuracy", "loss", "defect-recall"),
        help="What decides on validation which epoch is kept; default macro-f1.",
    ),
    _option("--patience", type=int, help="Stop after so many epochs without gain on validation; default 10."),
    _option(
        "--ema",
        type=float,
        help="Keep a moving average of the weights with this decay; default 0, with --weights 0.99.",
    ),
    _option(
        "--mixed-precision",
        is_flag=True,
        default=None,
        help="Compute in float16 on a GPU, bfloat16 on a CPU; the model stays float32.",
    ),
]
VARIATION = [
    _option(
        "--flips",
        type=_choice("none", "left-right", "up-down", "both"),
        help="Mirror images in training; default both. Turn off an axis along which a mirrored part would be another "
        "class: left and right parts, letters, a direction of grain.",
    ),
    _option(
        "--rand-augment", type=int, help="Strength 0 to 10 of further variations that a line can produce; default 0."
    ),
    _option("--mixup", type=float, help="Blend two images; alpha such as 0.2, default 0."),
    _option("--cutmix", type=float, help="Paste a part of another image; alpha such as 1, default 0."),
    _option("--views", type=int, help="Show so many variations of an image in turn; default 0: a new one every time."),
]
TEACHING = [
    _option(
        "--teacher",
        multiple=True,
        metavar="RUN",
        type=click.Path(path_type=Path),
        help="A run to learn from; several teach together. Give --views, and their answers are computed once.",
    ),
    _option("--temperature", type=float, help="Of the soft answers; default 4."),
    _option("--teacher-weight", type=float, help="Share of the loss that the teachers have, 0 to 1; default 0.5."),
    _option("--feature-weight", type=float, help="Weight of the distance between features; default 0."),
    _option(
        "--teacher-cache",
        type=click.Path(path_type=Path),
        help="Folder for the teachers' answers; default teaching beside the run.",
    ),
]
