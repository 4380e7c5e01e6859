"""`lineside robustness`: what corrupted and attacked pictures do to an artifact, and whether doubt ranks its errors."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from device_agent.console import json_option, print_json

if TYPE_CHECKING:
    from toolkit.evaluation.attacks import Attacks
    from toolkit.evaluation.robustness import Robustness
    from toolkit.evaluation.uncertainty import Uncertainty


@click.command("robustness")
@click.argument("run_dir", metavar="RUN", type=click.Path(path_type=Path))
@click.option("--artifact", "names", multiple=True, help="Only this one, such as litert-int8; can be repeated.")
@click.option("--kinds", help="Corruptions, with commas, such as defocus,jpeg. Default: all.")
@click.option("--severities", default="1,2,3,4,5", show_default=True, help="With commas.")
@click.option("--attacks", is_flag=True, help="Also FGSM and PGD on the Keras model, carried over to the artifacts.")
@click.option("--levels", default="1,2,4,8", show_default=True, help="Strengths of the attacks in grey levels of 255.")
@click.option("--dropout", is_flag=True, help="Also Monte Carlo dropout as doubt; the model needs a dropout layer.")
@click.option(
    "--ensemble",
    "others",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Another run on the same data, to doubt by their disagreement; can be repeated.",
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--threads", type=click.IntRange(1, 64), default=1, show_default=True)
@json_option
def robustness(
    run_dir: Path,
    names: tuple[str, ...],
    kinds: str | None,
    severities: str,
    attacks: bool,
    levels: str,
    dropout: bool,
    others: tuple[Path, ...],
    seed: int,
    threads: int,
    as_json: bool,
) -> None:
    """Measure the artifacts of RUN on corrupted validation pictures, through the device's own code.

    Saves RUN/robustness/ARTIFACT.json with heat maps, and the risk-coverage curves of its doubt. What was measured
    already is not measured again, so that an interrupted call goes on.

    \b
    Example: lineside robustness runs/steel --artifact litert-int8 --kinds defocus,jpeg
    """
    from toolkit.artifacts import open_artifacts
    from toolkit.data.corruptions import KINDS
    from toolkit.evaluation.robustness import measure_robustness, save_robustness
    from toolkit.runs import open_run
    from toolkit.terminal import progress_bar

    run = open_run(run_dir)
    members = [open_run(other) for other in others]
    chosen = list(names) or [artifact.name for artifact in open_artifacts(run)]
    which = kinds.split(",") if kinds else list(KINDS)
    strengths, steps = _numbers(levels, "--levels"), _numbers(severities, "--severities")
    doubts = [_doubt(run, name, members, dropout, seed, threads) for name in chosen]  # first: it may be refused
    corrupted = []
    for name in chosen:
        with progress_bar(f"{name}: corrupted pictures") as bar:
            result = measure_robustness(
                run, name, kinds=which, severities=steps, seed=seed, threads=threads, progress=bar
            )
        corrupted.append((result, save_robustness(run, result)))
    attacked = _attack(run, chosen, strengths, seed, threads) if attacks else None
    if as_json:
        print_json({"corruptions": [result for result, _ in corrupted], "doubt": doubts, "attacks": attacked})
        return
    for (result, path), doubt in zip(corrupted, doubts, strict=True):
        _print(result, path)
        _print_doubt(doubt)
    if attacked is not None:
        _print_attacks(attacked)


def _numbers(text: str, option: str) -> list[int]:
    try:
        return [int(word) for word in text.split(",")]
    except ValueError:
        raise click.BadParameter(f"must be whole numbers with commas, got {text!r}", param_hint=option) from None


def _doubt(run: Any, name: str, members: list[Any], dropout: bool, seed: int, threads: int) -> Uncertainty:
    import msgspec

    from device_agent.contract.files import write_whole
    from toolkit.evaluation.selective import plot_risk
    from toolkit.evaluation.uncertainty import measure_uncertainty
    from toolkit.terminal import progress_bar

    with progress_bar(f"{name}: doubt") as bar:
        found = measure_uncertainty(
            run, name, others=members, dropout=dropout, seed=seed, threads=threads, progress=bar
        )
    path = run.dir / "robustness" / f"{name}.doubt.json"
    write_whole(path, msgspec.json.format(msgspec.json.encode(found, order="sorted"), indent=2) + b"\n")
    plot_risk(path.with_suffix(".png"), {one.name: one.curve for one in found.doubts})
    return found


def _attack(run: Any, names: list[str], levels: list[int], seed: int, threads: int) -> Attacks:
    import msgspec

    from device_agent.contract.files import write_whole
    from toolkit.evaluation.attacks import measure_attacks
    from toolkit.terminal import progress_bar

    with progress_bar("attacks") as bar:
        found = measure_attacks(run, names, levels=levels, seed=seed, threads=threads, progress=bar)
    text = msgspec.json.format(msgspec.json.encode(found, order="sorted"), indent=2)
    write_whole(run.dir / "robustness" / "attacks.json", text + b"\n")
    return found


def _print(result: Robustness, path: Path | None) -> None:
    from rich.table import Table

    from toolkit.terminal import print_tables

    low, high = result.mean_error_interval
    click.echo(
        f"{result.artifact}: error {_percent(result.clean.error)} clean, {_percent(result.mean_error)} "
        f"({_percent(low)} to {_percent(high)}) over {len(result.kinds)} kinds and severities "
        f"{', '.join(map(str, result.severities))}; {result.images} validation images, {result.groups} groups"
    )
    table = Table()
    for column in ("corruption", "error", "times clean", "macro-F1", "recall of defects"):
        table.add_column(column, justify="left" if column == "corruption" else "right")
    clean = result.clean
    table.add_row("none", _percent(clean.error), "1", f"{clean.macro_f1:.3f}", _share(clean.defect_recall))
    for one in result.by_kind:
        times = "-" if one.times is None else f"{one.times:.2f}"
        table.add_row(one.kind, _percent(one.error), times, f"{one.macro_f1:.3f}", _share(one.defect_recall))
    relative = "-" if result.relative is None else f"{result.relative:.2f}"
    table.add_row(
        "mean",
        _percent(result.mean_error),
        relative,
        f"{result.mean_macro_f1:.3f}",
        _share(result.mean_defect_recall),
    )
    print_tables(table)
    if path is None:
        click.echo("  not saved: the run has these conditions and more already")
    else:
        click.echo(f"  saved     {path}, {path.with_suffix('.png').name}")


def _print_doubt(found: Uncertainty) -> None:
    for one in found.doubts:
        curve = one.curve
        rank = "-"
        if curve.auroc is not None and curve.auroc_interval is not None:
            rank = f"{curve.auroc:.3f} ({curve.auroc_interval[0]:.3f} to {curve.auroc_interval[1]:.3f})"
        gain = ""
        if one.name != "confidence":
            low, high = one.gain_interval
            gain = f"; gain {100 * one.gain:+.2f} points of AURC ({100 * low:+.2f} to {100 * high:+.2f})"
        click.echo(
            f"  doubt by {one.name}: accuracy {_percent(one.accuracy)}, AURC {_percent(curve.aurc)} "
            f"({_percent(curve.aurc_interval[0])} to {_percent(curve.aurc_interval[1])}), AUROC of errors {rank}{gain}"
        )
    for note in found.notes:
        click.echo(f"  {note}")


def _print_attacks(found: Attacks) -> None:
    from rich.table import Table

    from toolkit.terminal import print_tables

    table = Table(
        title=f"accuracy on {found.images} attacked validation images, 95 % over {found.groups} groups",
        title_justify="left",
    )
    table.add_column("attack")
    table.add_column("grey levels", justify="right")
    for model in found.results[0].accuracy:
        table.add_column(model, justify="right")
    for one in found.results:
        cells = [
            f"{_percent(value)} ({_percent(one.intervals[model][0])} to {_percent(one.intervals[model][1])})"
            for model, value in one.accuracy.items()
        ]
        table.add_row(one.attack if one.levels else "none", str(one.levels), *cells)
    print_tables(table)


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _share(share: float | None) -> str:
    return "-" if share is None else f"{share:.3f}"
