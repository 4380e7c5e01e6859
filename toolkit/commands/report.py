"""`lineside report`: one page about a run."""

from __future__ import annotations

from pathlib import Path

import click

from device_agent.console import json_option, print_json


@click.command("report")
@click.argument("run_dir", metavar="RUN", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="[default: RUN/report.html]")
@click.option("--card", type=click.Path(path_type=Path, dir_okay=False), help="[default: RUN/card.toml]")
@json_option
def report(run_dir: Path, out: Path | None, card: Path | None, as_json: bool) -> None:
    """Write one HTML page with the figures, the plots and the model card of RUN.

    Nothing is measured: the page shows what evaluate, bench, operating-point and robustness left in the run, and says
    what the model does not promise. card.toml holds what only a person can say: intended_use, out_of_scope, licence,
    contact, notes.

    \b
    Example: lineside report runs/steel --out steel.html
    """
    from toolkit.report.report import write_report
    from toolkit.runs import open_run

    written = write_report(open_run(run_dir), out, card=card)
    if as_json:
        print_json(written)
        return
    click.echo(f"{written.path}  {written.size / 1024**2:.2f} MiB  {', '.join(written.sections)}")
    for limit in written.limits:
        click.echo(f"  limit: {limit}")
