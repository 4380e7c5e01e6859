"""`lineside demo`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from device_agent.console import json_option, print_json
from device_agent.contract.errors import LinesideError

if TYPE_CHECKING:
    from toolkit.demo.show import DemoResult


@click.command("demo")
@click.option(
    "--data", type=click.Path(path_type=Path), help="A folder of real images, one folder per class; default: drawn."
)
@click.option(
    "--weights",
    type=click.Path(path_type=Path),
    help="Pretrained MobileNetV2 1.0; default with --data: the file under LINESIDE_WEIGHTS, if it is there.",
)
@click.option("--out", type=click.Path(path_type=Path), default=Path("demo"), show_default=True, help="Working folder.")
@click.option("--once", is_flag=True, help="End when all has happened; exit 0 only if every alert was true.")
@click.option("--port", type=click.IntRange(1, 65535), help="Of the monitor's page; default: a free one.")
@click.option("--fresh", is_flag=True, help="Draw, train and convert again, whatever an earlier demo left.")
@json_option
def demo(
    data: Path | None, weights: Path | None, out: Path, once: bool, port: int | None, fresh: bool, as_json: bool
) -> None:
    """From a folder of images to a drift alert, on this machine, with real programs.

    Draws (or takes) images, trains, makes three artifacts and compares them; then starts a broker, the monitor with its
    page, and five agents on three runtimes. A lens gets dirty on line 1: that device must be paged. Line 2 changes over
    to another product: one site alert at most. No other alert may appear.

    \b
    Example: lineside demo --once --json
    """
    from toolkit.demo.show import run_demo

    result = run_demo(
        out, data=data, weights=weights, once=once, port=port, fresh=fresh, say=lambda line: click.echo(line, err=True)
    )
    if as_json:
        print_json(result)
    else:
        _print_result(result)
    if result.judgement.failures:
        raise LinesideError("; ".join(result.judgement.failures))


def _print_result(result: DemoResult) -> None:
    judged = result.judgement
    after = judged.paged_after_intervals
    paged = "was not paged" if after is None else f"was paged {after:.1f} report intervals after the dirt"
    click.echo(f"{result.dirty_device} {paged}; {judged.site_alerts} site alerts; {len(judged.other_alerts)} others")
    stages = ", ".join(f"{name} {seconds:.0f}" for name, seconds in result.stages_s.items())
    click.echo(f"{result.reports} reports stored; seconds: {stages}; {result.total_s:.0f} in all (measured)")
