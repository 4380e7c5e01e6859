"""`lineside prune`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from device_agent.console import json_option, print_json
from toolkit.commands.option_groups import GroupedCommand, headed
from toolkit.commands.profiles import profiles_option

if TYPE_CHECKING:
    from toolkit.compression.outcome import Pruning, Request
    from toolkit.compression.pruning import Teach
    from toolkit.runs import Run
    from toolkit.training.watch import Watch

Option = tuple[tuple[str, ...], dict[str, Any]]
USUAL = ("litert-fp32", "onnx-fp32")  # what is measured where nothing is asked for


def _option(*names: str, **settings: Any) -> Option:
    return names, settings


BUDGET = [
    _option("--macs", type=float, metavar="SHARE", help="Leave this share of the multiply-accumulates, such as 0.5."),
    _option("--size", type=float, metavar="SHARE", help="Leave this share of the parameters."),
    _option(
        "--latency", type=float, metavar="SHARE", help="Leave this share of the latency, measured on the one --runtime."
    ),
]
CHOICE = [
    _option(
        "--score",
        type=click.Choice(["taylor", "l1"]),
        default="taylor",
        show_default=True,
        help="What tells channels that matter: the loss without them, to first order, or the size of their weights.",
    ),
    _option(
        "--groups",
        default="expansion,residual,squeeze-excite",
        show_default=True,
        metavar="KIND,...",
        help="Which channels may go.",
    ),
    _option("--floor", type=float, default=0.3, show_default=True, help="Share of each layer that stays in any case."),
    _option(
        "--align",
        default="8",
        show_default=True,
        metavar="N|curve",
        help="Go to multiples of N, or to what is good on the runtimes' own curves, measured once and kept.",
    ),
]
TUNING = [
    _option("--rounds", type=int, default=3, show_default=True, help="Rounds of score, cut and fine-tune."),
    _option("--epochs", type=int, default=2, show_default=True, help="Epochs after each round but the last."),
    _option("--last-epochs", type=int, default=10, show_default=True, help="Epochs after the last round."),
    _option("--lr", type=float, default=1e-3, show_default=True, help="Peak learning rate of each fine-tuning."),
    _option("--seed", type=int, default=0, show_default=True, help="Of the order of the images."),
    _option(
        "--teacher",
        "teachers",
        multiple=True,
        metavar="RUN",
        type=click.Path(path_type=Path),
        help="A run to learn from, such as RUN itself; several teach together.",
    ),
    _option("--temperature", type=float, default=4.0, show_default=True, help="Of the teachers' soft answers."),
    _option(
        "--teacher-weight", type=float, default=0.9, show_default=True, help="Share of the loss that the teachers have."
    ),
    _option(
        "--teacher-cache",
        type=click.Path(path_type=Path),
        help="Folder for the teachers' answers; default teaching beside the run.",
    ),
]
TARGETS = [
    _option("--for", "profile_ids", multiple=True, metavar="PROFILE", help="Measure on the artifacts of this profile."),
    _option(
        "--runtime", "runtimes", multiple=True, help="Measure on this runtime; default litert and onnx. Again for more."
    ),
    _option(
        "--precision",
        type=click.Choice(["fp32", "fp16", "int8"]),
        default="fp32",
        show_default=True,
        help="Of --runtime.",
    ),
]


@click.command("prune", cls=GroupedCommand)
@click.argument("run_dir", metavar="RUN", type=click.Path(path_type=Path))
@headed(
    "The run",
    [
        _option("--out", required=True, type=click.Path(path_type=Path), help="Folder of the pruned run."),
        _option("--fresh", is_flag=True, help="Start over, whatever that folder holds of a pruning."),
    ],
)
@headed("Budget, one of", BUDGET)
@headed("Channels", CHOICE)
@headed("Fine-tuning", TUNING)
@headed("Targets", TARGETS)
@profiles_option
@json_option
def prune(
    run_dir: Path,
    out: Path,
    fresh: bool,
    teachers: tuple[Path, ...],
    teacher_cache: Path | None,
    profile_ids: tuple[str, ...],
    runtimes: tuple[str, ...],
    precision: str,
    profiles_dir: Path | None,
    as_json: bool,
    **given: Any,
) -> None:
    """Cut channels out of the network of a trained RUN, and fine-tune what is left.

    The result is an ordinary run, with pruning.json beside it. What goes is what matters least for what it costs, over
    the whole network; layers that share channels lose the same ones. Parent, pruned model and the control - the parent
    after the same epochs of fine-tuning - are judged on the validation images. Parent and pruned model are then
    measured in turns on each target: one that is slower than its parent is refused, and the exit code is 3. An
    interrupted pruning goes on when the same command is given again.

    \b
    Example: lineside prune runs/steel --out runs/steel-half --macs 0.5 --teacher runs/steel
    Example: lineside prune runs/steel --out runs/steel-fast --latency 0.5 --runtime litert --precision int8
    """
    artifacts = _artifacts(profile_ids, runtimes, precision, profiles_dir)
    budget = _budget(given, runtimes, artifacts)
    from toolkit.compression.outcome import Request
    from toolkit.compression.pruning import prune as run_pruning
    from toolkit.runs import open_run
    from toolkit.training.bar import TrainingBar

    parent = open_run(run_dir)
    align, groups = given.pop("align"), given.pop("groups")
    bar = TrainingBar()
    with bar:
        request = Request(
            align=_alignment(align, artifacts, bar),
            groups=[name.strip() for name in groups.split(",")],
            teachers=[_digest(teacher) for teacher in teachers],
            **budget,
            **given,
        )
        teach = _teach(parent, teachers, teacher_cache or out.parent / "teaching", request, bar) if teachers else None
        found = run_pruning(parent, out, request, artifacts=artifacts, teach=teach, fresh=fresh, watch=bar)
    print_json(found) if as_json else _print(found)


def _artifacts(
    profile_ids: tuple[str, ...], runtimes: tuple[str, ...], precision: str, folder: Path | None
) -> list[str]:
    """Names of the artifacts that parent and pruned model are measured as."""
    from profiles.registry import load

    named = [f"{runtime}-{precision}" for runtime in runtimes]
    named += [name for profile_id in profile_ids for name in load(profile_id, folder).artifacts]
    return list(dict.fromkeys(named)) or list(USUAL)


def _budget(given: dict[str, Any], runtimes: tuple[str, ...], artifacts: list[str]) -> dict[str, Any]:
    """The one budget that was given, taken out of the options."""
    shares = {name: given.pop(name) for name in ("macs", "size", "latency")}
    stated = {name: share for name, share in shares.items() if share is not None}
    if len(stated) != 1:
        raise click.UsageError("name one budget: --macs SHARE, --size SHARE or --latency SHARE")
    name, share = stated.popitem()
    if name == "latency" and len(runtimes) != 1:
        raise click.UsageError("--latency is measured on one runtime: name it with --runtime and --precision")
    return {"budget": name, "share": share, "artifact": artifacts[0] if name == "latency" else ""}


def _alignment(text: str, artifacts: list[str], watch: Watch) -> int:
    """Multiples that channels go to."""
    if text != "curve":
        if not text.isdecimal():
            raise click.UsageError(f"--align takes a number or curve, got {text!r}")
        return int(text)
    from toolkit.compression.curve import alignment_of

    return max(alignment_of(name, watch=watch) for name in artifacts)


def _digest(folder: Path) -> str:
    from converters.artifact import file_sha256
    from toolkit.runs import open_run

    return file_sha256(open_run(folder).model_path)


def _teach(parent: Run, folders: tuple[Path, ...], cache: Path, request: Request, watch: Watch) -> Teach:
    """What makes the teachers' answers."""
    from toolkit.compression.teaching import taught

    return taught(
        parent,
        folders,
        cache,
        request,
        progress=lambda done, total: watch.stage(f"asking the teacher: {done} of {total} images"),
    )


def _print(found: Pruning) -> None:
    if found.already_pruned:
        click.echo(f"{found.run}: already pruned; --fresh starts over")
    (macs, fewer), (size, smaller) = found.macs, found.parameters
    click.echo(
        f"{found.run}: {fewer / 1e6:.2f} of {macs / 1e6:.2f} million MACs ({fewer / macs:.1%}), "
        f"{smaller:,} of {size:,} parameters ({smaller / size:.1%})"
    )
    click.echo(f"macro-F1 on {found.images} validation images, by Keras, 95 % interval over groups:")
    epochs = found.control_epochs
    for name, score in (
        ("parent", found.parent_score),
        ("pruned", found.pruned_score),
        (f"control (the parent after the same {epochs} epochs)", found.control_score),
    ):
        click.echo(f"  {name}: {score.macro_f1:.4f} ({score.low:.4f} to {score.high:.4f})")
    for name, gain in (("parent", found.gain), ("control", found.gain_over_control)):
        points = (100 * each for each in (gain.value, gain.low, gain.high))
        click.echo("  pruned less {}: {:+.2f} points ({:+.2f} to {:+.2f})".format(name, *points))
    for timing in found.timings:
        click.echo(
            f"{timing.artifact}: {timing.pruned_ms:.3f} ms, parent {timing.parent_ms:.3f} ms, {timing.factor:.2f} "
            f"times as fast (measured on {timing.device}, p50, {timing.threads} thread)"
        )
        if found.request.budget == "latency" and timing.artifact == found.request.artifact:
            left, share = timing.pruned_ms / timing.parent_ms, found.request.share
            click.echo(f"{timing.artifact}: {left:.0%} of the latency is left, {share:.0%} was asked for")
