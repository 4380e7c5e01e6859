"""`lineside inspect`: what is in a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from device_agent.console import json_option, print_json

if TYPE_CHECKING:
    from device_agent.contract.manifest import Decision
    from toolkit.inspection import Inspection


@click.command("inspect")
@click.argument("bundle", type=click.Path(path_type=Path))
@json_option
def inspect(bundle: Path, as_json: bool) -> None:
    """Verify BUNDLE and show what is in it. A damaged one ends with exit code 6.

    \b
    Example: lineside inspect runs/steel/steel-raspberry-pi-4.lineside
    """
    from toolkit.inspection import inspect_bundle

    inspection = inspect_bundle(bundle)
    if as_json:
        print_json(inspection)
    else:
        _print(inspection)


def _print(inspection: Inspection) -> None:
    manifest = inspection.manifest
    click.echo(f"{manifest.name} for {manifest.profile}, schema {manifest.schema}")
    click.echo(f"  sha256     {inspection.sha256}")
    click.echo(f"  size       {inspection.size / 1024**2:.2f} MiB, {inspection.files_verified} files, digests verified")
    click.echo(f"  labels     {', '.join(f'{label.name} ({label.role})' for label in manifest.labels)}")
    click.echo(f"  golden     {inspection.golden_images} images")
    cores = f" on cores {manifest.run.affinity}" if manifest.run.affinity else ""
    click.echo(f"  run        {manifest.run.threads} threads{cores}; {_budgets(inspection)}")
    for rung, (artifact, model_id) in enumerate(zip(manifest.artifacts, inspection.model_ids, strict=True), 1):
        size = sum(one.size for one in artifact.files) / 1024**2
        figures = ", ".join(f"{name} {value:.3f}" for name, value in sorted(artifact.metrics.items()))
        spec = artifact.input
        click.echo(f"artifact {rung}  {artifact.runtime}-{artifact.precision}  model {model_id}  {size:.2f} MiB")
        click.echo(f"  input      {spec.width} x {spec.height} x {spec.channels} {spec.colour_order}, {spec.resize}")
        click.echo(f"  calibrated temperature {artifact.temperature:g}; {figures}")
        frames = int(artifact.baseline.dense().sum())
        stated = "stated" if artifact.baseline.prevalence else "not stated"
        click.echo(f"  baseline   {frames} images, prevalence {stated}; golden tolerance {artifact.golden.tolerance:g}")
        if artifact.decision is not msgspec.UNSET:
            _print_decision(artifact.decision)
        for one in artifact.files:
            click.echo(f"  file       {one.name}  {one.size} bytes  {one.sha256[:16]}")
    if manifest.lineage is not None:
        lineage = manifest.lineage
        click.echo(
            f"lineage      run {lineage.run}, data {lineage.data_sha256[:16]}, recipe {lineage.recipe_sha256[:16]}"
        )
        click.echo(f"  made with  {', '.join(f'{name} {found}' for name, found in sorted(lineage.packages.items()))}")


def _print_decision(decision: Decision) -> None:
    ways = f"pass below {decision.low:g}, reject from {decision.high:g}"
    if decision.low < decision.high:
        ways += ", a person between"
    click.echo(f"  decision   by the log-odds of a defect: {ways}")
    click.echo(
        f"  bounds     escape at most {decision.escape_upper:.2%} (worst class {decision.escape_worst_upper:.2%}), "
        f"overkill at most {decision.overkill_upper:.2%}, at {100 * decision.confidence:g} % confidence, "
        f"{decision.provenance} on {decision.images} images of {decision.groups} groups"
    )


def _budgets(inspection: Inspection) -> str:
    run = inspection.manifest.run
    pairs = [("p50", run.latency_p50_ms, "ms"), ("RSS", run.rss_mib, "MiB"), ("size", run.size_mib, "MiB")]
    return "budgets " + (", ".join(f"{name} {value:g} {unit}" for name, value, unit in pairs if value) or "none")
