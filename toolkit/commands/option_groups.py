"""Help of a command with many options: sorted under headings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import click

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


class GroupedOption(click.Option):
    """An option that stands under a heading in the help."""

    def __init__(self, *args: Any, heading: str = "", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.heading = heading


class GroupedCommand(click.Command):
    """A command whose help lists options under their headings, in the order of their first options."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write one section a heading; options without one come last."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                sections.setdefault(getattr(parameter, "heading", ""), []).append(record)
        rest = sections.pop("", [])
        for heading, records in [*sections.items(), ("Options", rest)]:
            if records:
                with formatter.section(heading):
                    formatter.write_dl(records)


def headed(heading: str, options: Sequence[tuple[tuple[str, ...], dict[str, Any]]]) -> Decorator:
    """A decorator that adds options, each as the names and settings of click.option, under a heading."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        for names, settings in reversed(options):
            function = click.option(*names, cls=GroupedOption, heading=heading, **settings)(function)
        return function

    return decorate
