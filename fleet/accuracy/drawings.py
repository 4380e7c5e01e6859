"""Small drawings of the report, as SVG text: numbers only, so nothing of anybody else is in them."""

from __future__ import annotations

from collections.abc import Sequence

from fleet.accuracy.account import Day
from fleet.accuracy.calibration import Band
from fleet.accuracy.intervals import Interval

WIDTH, HEIGHT, LEFT, FOOT = 560, 150, 46, 18


def over_time(days: Sequence[Day], figure: str) -> str:
    """Middle and limits of a figure ("accuracy" or "recall") a day; "" for fewer than two days."""
    if len(days) < 2:
        return ""
    points: list[Interval] = [getattr(day, figure).interval for day in days]
    low = min(point.low for point in points)
    bottom = max(0.0, low - 0.05 * (1 - low) - 0.002)
    xs = [LEFT + (WIDTH - LEFT - 8) * index / (len(points) - 1) for index in range(len(points))]

    def y(value: float) -> float:
        return 6 + (HEIGHT - FOOT - 6) * (1 - (value - bottom) / (1 - bottom))

    upper = [f"{x:.1f},{y(point.high):.1f}" for x, point in zip(xs, points, strict=True)]
    lower = [f"{x:.1f},{y(point.low):.1f}" for x, point in zip(xs, points, strict=True)]
    line = " ".join(f"{x:.1f},{y(point.value):.1f}" for x, point in zip(xs, points, strict=True))
    marks = "".join(
        f'<text x="{LEFT - 6}" y="{y(value) + 4:.1f}" text-anchor="end">{100 * value:.1f}%</text>'
        f'<line x1="{LEFT}" x2="{WIDTH - 8}" y1="{y(value):.1f}" y2="{y(value):.1f}" class="grid"/>'
        for value in (bottom, (1 + bottom) / 2, 1.0)
    )
    around = " ".join(upper + lower[::-1])
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{figure} by day">{marks}'
        f'<polygon class="band" points="{around}"/><polyline class="line" points="{line}"/></svg>'
    )


def reliability(bands: Sequence[Band]) -> str:
    """Share of right answers of each labelled band with its limits, over the mean confidence; the diagonal is perfect
    calibration."""
    size, pad = 220, 30

    def at(value: float) -> float:
        return pad + (size - pad - 8) * value

    marks = "".join(
        f'<line class="limits" x1="{at(band.confidence):.1f}" x2="{at(band.confidence):.1f}" '
        f'y1="{size - at(band.right.low):.1f}" y2="{size - at(band.right.high):.1f}"/>'
        f'<circle class="dot" cx="{at(band.confidence):.1f}" cy="{size - at(band.right.value):.1f}" r="4"/>'
        for band in bands
    )
    ticks = "".join(
        f'<text x="{at(value):.1f}" y="{size - 8}" text-anchor="middle">{value:g}</text>'
        f'<text x="{pad - 6}" y="{size - at(value) + 4:.1f}" text-anchor="end">{value:g}</text>'
        for value in (0, 0.5, 1)
    )
    diagonal = f'<line class="grid" x1="{at(0)}" y1="{size - at(0)}" x2="{at(1)}" y2="{size - at(1)}"/>'
    head = f'<svg class="square" viewBox="0 0 {size} {size}" role="img" aria-label="reliability">'
    return f"{head}{ticks}{diagonal}{marks}</svg>"
