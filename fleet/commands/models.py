"""`lineside-fleet models`: baselines of the models that devices run."""

from __future__ import annotations

import time
from pathlib import Path

import click

from device_agent.console import json_option, print_json
from fleet.commands.options import store_option


@click.group("models")
def models() -> None:
    """Models whose baseline the monitor knows.

    \b
    Example: lineside-fleet models import line.lineside
    """


@models.command("import")
@click.argument("bundles", nargs=-1, required=True, metavar="BUNDLE...", type=click.Path(path_type=Path))
@store_option
def import_bundles(bundles: tuple[Path, ...], store: str) -> None:
    """Take labels and baseline of every artifact in the bundles.

    \b
    Example: lineside-fleet models import line.lineside
    """
    from fleet.models import read_bundle_models, write_models
    from fleet.requests import ask
    from fleet.store import open_store
    from fleet.wording import printable

    now_ms = time.time_ns() // 1_000_000
    found = [model for bundle in bundles for model in read_bundle_models(bundle, now_ms)]
    with open_store(store, create=True).begin() as tx:
        write_models(tx, found)
        ask(tx, "models", " ".join(map(str, bundles)), now_ms)
    for model in found:
        stated = model.baseline is not None and model.baseline.prevalence is not None
        doubt = "" if stated else "  (no prevalence stated: only info until the first day has shown it)"
        click.echo(f"{model.model} {printable(model.name)}{doubt}", err=True)


@models.command("list")
@store_option
@json_option
def list_models(store: str, as_json: bool) -> None:
    """Every model that was imported or that a device named.

    \b
    Example: lineside-fleet models list
    """
    from fleet.models import read_models
    from fleet.store import open_store
    from fleet.wording import printable

    with open_store(store).connect() as tx:
        found = list(read_models(tx).values())
    if as_json:
        print_json(
            [
                {
                    "model": model.model,
                    "name": model.name,
                    "runtime": model.runtime,
                    "precision": model.precision,
                    "labels": [label.name for label in model.labels],
                    "imported": model.baseline is not None,
                }
                for model in found
            ]
        )
        return
    for model in found:
        click.echo(f"{model.model} {printable(model.name):32} {'imported' if model.baseline else 'not imported'}")
