"""`lineside verify`: artifacts still compute what was trained."""

from __future__ import annotations

from pathlib import Path

import click

from device_agent.console import json_option, print_json
from device_agent.contract.errors import ParityFailed


@click.command("verify")
@click.argument("run", type=click.Path(path_type=Path))
@json_option
def verify(run: Path, as_json: bool) -> None:
    """Check every artifact of a run: file digests, then agreement with Keras on the validation images.

    Ends with exit code 4 when any artifact was changed, belongs to another model, or fails its gate.

    \b
    Example: lineside verify runs/steel
    """
    from toolkit.conversion import verify_run
    from toolkit.runs import open_run

    found = verify_run(open_run(run), progress=lambda name: click.echo(f"verifying {name}", err=True))
    if as_json:
        print_json(found)
    else:
        for each in found:
            agrees = (
                f"agrees with Keras on {each.parity.agreement:.1%} of {each.parity.images} images"
                if each.parity
                else ""
            )
            doubt = f"; {each.parity.doubt}" if each.parity and each.parity.doubt else ""
            click.echo(f"{each.name:<14} {'good' if each.passed else 'FAILED':<6} {agrees}{doubt}".rstrip())
    failed = [str(each.reason) for each in found if not each.passed]
    if failed:
        raise ParityFailed("; ".join(failed))
