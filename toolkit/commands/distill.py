"""`lineside distill`: `lineside train` with a teacher."""

from __future__ import annotations

from typing import Any

import click

from device_agent.contract.errors import BadInput
from toolkit.commands.option_groups import GroupedCommand
from toolkit.commands.train import train


@click.command("distill", cls=GroupedCommand, params=list(train.params))
@click.pass_context
def distill(context: click.Context, /, **given: Any) -> None:
    """Train a small student on the images in folder DATA, taught by one or several trained runs.

    The student's options are those of `lineside train`. Teachers answer to the very variations of the images that the
    student sees; their answers are kept on disk, so that a further student or learning rate under the same --seed costs
    its own steps only. A teacher of other classes is refused, and one that was taught on images, or parts, that the
    student is judged on: give both the same --split-seed.

    \b
    Example: lineside distill data/steel --teacher runs/large --out runs/small --width 0.35 --size 128
    """
    if not given["teacher"]:
        raise BadInput("distill needs a teacher: --teacher RUN, once or several times")
    context.invoke(train, **given)
