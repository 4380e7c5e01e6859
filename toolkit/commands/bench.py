"""`lineside bench`: how fast and how large each artifact is, measured on this machine."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from device_agent.console import json_option, print_json
from device_agent.contract.errors import BudgetMissed, NotFound
from toolkit.commands.profiles import profiles_option

if TYPE_CHECKING:
    from device_agent.contract.benchmark import BenchmarkReport
    from profiles.schema import DeviceProfile
    from toolkit.runs import Run


class Milliseconds(click.FloatRange):
    """A range of real numbers: nan, which is under no limit and over none, is refused."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The number."""
        number: float = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail(f"{value} is not a number.", param, ctx)
        return number


@click.command("bench")
@click.argument("what", metavar="RUN|FILE", type=click.Path(path_type=Path))
@click.option("--for", "profile_id", metavar="PROFILE", help="Show the budgets of this profile beside.")
@click.option("--artifact", "names", multiple=True, help="Only this one, such as litert-int8; can be repeated.")
@click.option("--quick", is_flag=True, help="Measure each for 1 s instead of 10.")
@click.option("--threads", type=click.IntRange(1, 64), help="[default: those of the profile, else 1]")
@click.option(
    "--max-p50-ms",
    type=Milliseconds(min=0, min_open=True),
    help="End with exit code 3 if an artifact's p50 is over this.",
)
@profiles_option
@json_option
def bench(
    what: Path,
    profile_id: str | None,
    names: tuple[str, ...],
    quick: bool,
    threads: int | None,
    max_p50_ms: float | None,
    profiles_dir: Path | None,
    as_json: bool,
) -> None:
    """Measure the artifacts of RUN, or the .tflite, .onnx or OpenVINO .xml FILE, on this machine, each in a process of
    its own.

    Ends with exit code 3 when --max-p50-ms, or a budget of a profile that stands for this machine (generic-x86-64), is
    missed. Budgets of other boards are only shown: what is measured here says nothing about them.

    \b
    Example: lineside bench runs/steel --for raspberry-pi-4 --quick
    """
    from profiles.registry import load

    if names and what.is_file():
        raise click.UsageError("--artifact goes with a RUN")
    profile = load(profile_id, profiles_dir) if profile_id else None
    if threads is None:
        threads = profile.threads if profile and profile.this_machine else 1
    run, reports = None, {}
    if what.is_file():
        from toolkit.benchmark import bench_file

        click.echo(f"{what.name}: measuring ...", err=True)
        reports[what.name] = bench_file(what, threads=threads, quick=quick)
    else:
        from toolkit.benchmark import bench_artifact
        from toolkit.runs import open_run

        run = open_run(what)
        for name in _chosen(run, names, profile):
            click.echo(f"{name}: measuring ...", err=True)
            reports[name] = bench_artifact(run, name, threads=threads, quick=quick)
    if as_json:
        print_json(reports)
    else:
        _print(run, reports, profile)
    _judge(reports, profile, max_p50_ms)


def _chosen(run: Run, names: tuple[str, ...], profile: DeviceProfile | None) -> list[str]:
    from toolkit.artifacts import open_artifact, open_artifacts

    wanted = [open_artifact(run, name) for name in names] or open_artifacts(run)
    chosen = [one.name for one in wanted if names or profile is None or one.name in profile.artifacts]
    if profile is not None and not chosen:
        raise NotFound(f"{run.dir}: no artifact of {profile.id}; lineside convert {run.dir} --for {profile.id}")
    return chosen


def _judge(reports: dict[str, BenchmarkReport], profile: DeviceProfile | None, max_p50_ms: float | None) -> None:
    from device_agent.contract.manifest import RunSection
    from toolkit.benchmark import find_misses

    asked = RunSection(latency_p50_ms=max_p50_ms)
    misses = [miss for name, report in reports.items() for miss in find_misses(name, report, asked)]
    if profile is not None and profile.this_machine:
        misses += [miss for name, report in reports.items() for miss in find_misses(name, report, profile.run)]
    if misses:
        said = [f"{one.artifact} {one.figure} {one.measured:.4g} > {one.budget:g} {one.unit}" for one in misses]
        raise BudgetMissed(f"over budget: {'; '.join(said)}")


def _print(run: Run | None, reports: dict[str, BenchmarkReport], profile: DeviceProfile | None) -> None:
    from rich.table import Table

    from toolkit.terminal import print_tables

    device = next(iter(reports.values())).device
    table = Table(title=f"measured on this machine: {device}", title_justify="left")
    columns = ("p50 ms", "p99 ms", "CPU p50 ms", "preprocess ms", "load ms", "RSS MiB", "size MiB", "accuracy")
    table.add_column("artifact")
    for column in columns:
        table.add_column(column, justify="right")
    for name, report in reports.items():
        table.add_row(
            name if report.valid else f"{name} (disturbed)",
            f"{report.p50_ms:.3f}",
            f"{report.p99_ms:.3f}",
            _figure(report.cpu_p50_ms, 3),
            _figure(report.preprocess_p50_ms, 3),
            _figure(report.load_ms, 0),
            _figure(report.rss_peak_mib, 0),
            f"{report.size_mib:.3g}",
            _figure(_accuracy(run, name) if run else None, 3),
        )
    if profile is not None:
        budgets = profile.run
        row = [budgets.latency_p50_ms, None, None, None, None, budgets.rss_mib, budgets.size_mib, None]
        table.add_section()
        table.add_row(f"budget of {profile.id}", *(f"{value:g}" if value is not None else "" for value in row))
    print_tables(table)
    if profile is not None and not profile.this_machine:
        click.echo(f"measured on this machine, not on the board: no verdict on {profile.name}")
    for name, report in reports.items():
        for flag in report.flags:
            click.echo(f"{name}: {flag}", err=True)


def _accuracy(run: Run, name: str) -> float | None:
    """Accuracy on validation, if these very files were evaluated."""
    from toolkit.artifacts import open_artifact
    from toolkit.evaluation.scores import read_evaluation

    evaluation = read_evaluation(run, name)
    return evaluation.accuracy if evaluation and evaluation.artifact_sha256 == open_artifact(run, name).sha256 else None


def _figure(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
