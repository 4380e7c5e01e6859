"""What `lineside evaluate` prints: a table for each question that was asked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click
from rich.table import Table

from toolkit.evaluation.figures import names_of, shown
from toolkit.evaluation.findings import Findings
from toolkit.evaluation.latency import UnderLimit
from toolkit.evaluation.paired import Difference
from toolkit.evaluation.slices import Slice
from toolkit.terminal import print_tables

_FIRST = ("accuracy", "macro-f1", "balanced-accuracy", "ece")
_BY_CLASS = ("recall", "precision", "f1", "ap")


def print_findings(results: Sequence[Findings], reliability: Path) -> None:
    """Print the figures of each artifact and the answers to what was asked."""
    print_tables(_summary(results), _by_class(results), _others(results))
    for one in results:
        _print_one(one)
    if results[0].under_limit is not None:
        _print_under(results[0].under_limit)
    if results[0].split == "test":
        click.echo(f"the test split was scored {max(one.times_scored for one in results)} times")
    click.echo(f"plots: {reliability}, and the confusion matrix and precision-recall curves of each artifact beside it")


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left")
    for place, column in enumerate(columns):
        table.add_column(column, justify="right" if place else "left")
    return table


def _summary(results: Sequence[Findings]) -> Table:
    first = results[0]
    title = f"{first.split} split: {first.images} images, {first.groups} groups; intervals 95 %, over groups"
    columns = ("artifact", "accuracy", "macro-F1", "balanced", "ECE", "ECE before", "temperature")
    table = _table(title, *columns)
    for one in results:
        figures = [shown(one.figures.get(name)) for name in _FIRST]
        table.add_row(one.artifact, *figures, f"{one.ece_raw:.3f}", f"{one.temperature:.2f}")
    return table


def _by_class(results: Sequence[Findings]) -> Table:
    columns = ("class", "artifact", "images", "recall", "precision", "F1", "average precision")
    table = _table("each class", *columns)
    for label in results[0].labels:
        for place, one in enumerate(results):
            figures = [one.figures.get(f"{what}.{label}") for what in _BY_CLASS]
            images = "0" if figures[0] is None else str(figures[0].images)
            table.add_row("" if place else label, one.artifact, images, *map(shown, figures))
    return table


def _others(results: Sequence[Findings]) -> Table:
    classes = {f"{what}.{label}" for what in _BY_CLASS for label in results[0].labels}
    table = _table("other figures (ECE over 15 equal-mass bins)", "figure", *(one.artifact for one in results))
    for name in names_of([one.figures for one in results]):
        if name not in _FIRST and name not in classes:
            table.add_row(name, *(shown(one.figures.get(name)) for one in results))
    return table


def _print_one(one: Findings) -> None:
    for report in one.slices:
        print_tables(_sliced(f"{one.artifact}: {report.metric} by {report.column}", report.slices))
        click.echo(report.verdict)
    for odds in one.equalised_odds:
        for rate in odds.rates:
            print_tables(_sliced(f"{one.artifact}: {rate.rate} by {odds.column}", rate.values))
        click.echo(odds.verdict)
    if one.gallery is not None:
        click.echo(f"{one.artifact}: {len(one.mistakes)} mistakes: {one.gallery}")
    if one.failures is not None:
        check = one.failures
        right = check.images - len(check.failed)
        known = f"; {check.trained_on} of them are training images, which prove little" if check.trained_on else ""
        click.echo(f"{one.artifact}: {right} of {check.images} known failures are right{known}")
    if one.kept_failures is not None:
        click.echo(f"{one.artifact}: {one.kept_failures} new failures were kept")
    for gate in one.gates:
        click.echo(f"{'reached' if gate.passed else 'missed'}: {gate.said()}")
    _print_compared(one)


def _print_compared(one: Findings) -> None:
    if one.ceiling is not None:
        found = one.ceiling
        table = _table(f"{one.artifact}: agreement with the other annotators", "annotator", "person", "model")
        for each in found.against:
            table.add_row(each.annotator, shown(each.person), shown(each.model))
        pairs = _table("annotators in pairs", "pair", "images", "agreement", "kappa")
        for pair in found.pairs:
            kappa = "-" if pair.kappa is None else f"{pair.kappa:.3f}"
            pairs.add_row(f"{pair.a}, {pair.b}", str(pair.images), f"{pair.agreement:.3f}", kappa)
        print_tables(pairs, table)
        click.echo(found.verdict)
    if one.simple_rule is not None:
        rule = one.simple_rule
        table = _table(
            f"{one.artifact} against a simple rule, which decides {rule.decides}", "figure", "rule", "model", "gain"
        )
        add_differences(table, rule.gain)
        print_tables(table)
        for sentence in rule.rule:
            click.echo(f"  {sentence}")
        click.echo(rule.verdict)
    if one.review is not None:
        _print_review(one)
    if one.elsewhere is not None:
        there = one.elsewhere
        title = f"{one.artifact} on {there.folder}: {there.images} images, {there.groups} groups"
        table = _table(title, "figure", "home", "there", "difference")
        for gap in there.figures:
            span = f"{gap.difference:+.3f} ({gap.low:+.3f} to {gap.high:+.3f})"
            table.add_row(gap.name, shown(gap.home), shown(gap.elsewhere), span)
        print_tables(table)
        if there.missing:
            click.echo(f"no image there of {', '.join(there.missing)}: means over classes are of other classes")
        click.echo(there.verdict)


def _print_review(one: Findings) -> None:
    review = one.review
    if review is None:
        return
    title = f"1000 images, {review.defects:.2%} of them defect ({review.prevalence_from})"
    columns = ("way", "defect recall", "false alarm rate", "escapes", "false alarms", "looks", "cost", "hours", "basis")
    table = _table(title, *columns)
    for way in review.ways:
        cells = [way.defect_recall, way.false_alarm_rate, way.escapes, way.false_alarms, way.looks, way.cost, way.hours]
        table.add_row(way.way, *("-" if cell is None else f"{cell:.4g}" for cell in cells), way.basis)
    print_tables(table)


def _print_under(under: UnderLimit) -> None:
    table = _table(
        f"{under.metric} at {under.quantile} <= {under.limit_ms:g} ms, measured on {under.device}",
        "artifact", f"{under.quantile} ms", under.metric, "within",
    )  # fmt: skip
    for row in under.artifacts:
        latency = "not measured" if row.latency_ms is None else f"{row.latency_ms:.3f}"
        table.add_row(row.artifact, latency, shown(row.figure), "yes" if row.within else "no")
    print_tables(table)
    click.echo(f"best within the limit: {under.best}" if under.best else "no artifact is within the limit")


def _sliced(title: str, slices: Sequence[Slice]) -> Table:
    table = _table(title, "value", "figure", "images", "groups", "")
    for one in slices:
        note = "" if one.enough else "too few to say"
        table.add_row(one.value, shown(one.figure), str(one.figure.images), str(one.figure.groups), note)
    return table


def add_differences(table: Table, found: dict[str, Difference]) -> None:
    """A row for each figure of two models on the same images."""
    for name, one in found.items():
        table.add_row(name, f"{one.a:.3f}", f"{one.b:.3f}", f"{one.value:+.3f} ({one.low:+.3f} to {one.high:+.3f})")
