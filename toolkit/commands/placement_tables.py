"""Where the operators of a model run, in print."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from device_agent.contract.errors import BudgetMissed, SelfTestFailed

if TYPE_CHECKING:
    from converters.op_rules import OpPlace, Placement
    from toolkit.placement import Check, PlacementReport

_MIB = 1024**2


def print_report(report: PlacementReport, *, each: bool = False) -> None:
    """Every check of a report; with `each`, every operator on a line of its own."""
    click.echo(f"{report.profile}: where each operator runs, predicted from the rules of each tool")
    for check in report.checks:
        _print_check(check, each)
    for rules in report.unjudged:
        click.echo(f"\n{rules}: nothing here is in the format that it reads")


def refuse_what_fails(reports: Sequence[PlacementReport]) -> None:
    """End the command with the exit code that the reports call for.

    Raises:
        BudgetMissed: an accelerator of the profile refuses every file.
        SelfTestFailed: a runtime does not do what the rules predict.
    """
    unserved = [(report, rules) for report in reports for rules in report.unserved]
    if unserved:
        said = "; ".join(f"{report.profile}: {rules} takes none of these files" for report, rules in unserved)
        raise BudgetMissed(f"{said}; the reason and what to do stand above")
    wrong = [check for report in reports for check in report.disagreeing]
    if wrong:
        names = ", ".join(f"{check.artifact} on {check.placement.rules}" for check in wrong)
        raise SelfTestFailed(f"the runtime does not do as predicted: {names}")


def _print_check(check: Check, each: bool) -> None:
    placement = check.placement
    click.echo(f"\n{check.artifact} on {placement.name} ({placement.tool})")
    if placement.refused:
        stopping = [op for op in placement.ops if op.verdict == "stops"]
        more = f" (operator {stopping[0].number}; {_counted(len(stopping), 'operator')} in all)"
        click.echo(f"  refused    {placement.refused}{more}")
    else:
        click.echo(
            f"  runs       {placement.on_accelerator} of {placement.operators} operators in "
            f"{_counted(placement.pieces, 'piece')}, {placement.share:.1%} of {placement.macs / 1e6:.1f} million MACs"
        )
    _print_memory(placement)
    if each:
        _print_each(placement.ops, placement)
    else:
        _print_groups(placement)
    for number, fix in enumerate(placement.fixes, 1):
        click.echo(f"  do {number:<7} {fix.what}")
        click.echo(
            f"             for {_counted(fix.operators, 'operator')} from {fix.kind} on; then "
            f"{fix.share:.1%} of the MACs in {_counted(fix.pieces, 'piece')}"
        )
    _print_truth(check)


def _print_memory(placement: Placement) -> None:
    if placement.on_chip_bytes is None or placement.refused:
        return
    streamed = placement.streamed_bytes or 0
    click.echo(
        f"  memory     {placement.on_chip_bytes / _MIB:.2f} MiB of parameters on the chip, "
        f"{f'{streamed / _MIB:.2f} MiB sent to it at every inference' if streamed else 'none streamed'}"
    )


def _print_groups(placement: Placement) -> None:
    """The operators that do not run there, those with one reason in one line, in the order in which they come."""
    from converters.op_rules import REFUSED

    groups: dict[tuple[str, str], list[OpPlace]] = {}
    for op in placement.ops:
        if op.verdict != "accelerator" and op.reason not in (REFUSED, placement.refused):
            groups.setdefault((op.verdict, op.reason.removeprefix(f"{op.kind}: ")), []).append(op)
    for (verdict, reason), ops in groups.items():
        kinds = Counter(op.kind for op in ops).most_common()
        shown = ", ".join(f"{count} {kind}" for kind, count in kinds[:4]) + (" and more" if len(kinds) > 4 else "")
        where = {"stops": "refused", "unknown": "unknown", "cpu": f"in {placement.elsewhere}"}[verdict]
        click.echo(f"  elsewhere  {shown}, from operator {ops[0].number}, {where}: {reason}")


def _print_each(ops: Sequence[OpPlace], placement: Placement) -> None:
    for op in ops:
        why = f"  {op.reason.removeprefix(f'{op.kind}: ')}" if op.reason else ""
        click.echo(f"  {op.number:>5} {op.kind:<20} v{op.version:<3} {_where(op.verdict, placement)}{why}")


def _print_truth(check: Check) -> None:
    truth = check.confirmation
    if check.unasked:
        click.echo(f"  no answer  {check.unasked}")
    if truth is None:
        return
    click.echo(f"  measured   predicted {truth.predicted}, {truth.runtime} has {truth.found} ({truth.counted})")
    if truth.differing:
        more = f" and {len(truth.differing) - 5} more" if len(truth.differing) > 5 else ""
        click.echo(f"  WRONG      placed elsewhere by {truth.runtime}: {', '.join(truth.differing[:5])}{more}")


def _where(verdict: str, placement: Placement) -> str:
    words = {"accelerator": placement.here, "cpu": placement.elsewhere, "stops": "REFUSED", "unknown": "unknown"}
    return words[verdict]


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
