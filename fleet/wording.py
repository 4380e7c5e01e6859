"""Alerts in words: the effect with its interval, since when, how sure, and what the pictures say of the cause."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from fleet.reading import Reading
from fleet.registry import Quality

EFFECTS = {
    "low+": "low confidence",
    "tail+": "low confidence",
    "def+": "defects called",
    "def-": "defects called",
    "bulk+": "confidence below its usual middle",
    "bulk-": "confidence below its usual middle",
}


def name_stream(stream: str) -> str:
    """A stream as people say it.

    >>> name_stream("low+"), name_stream("def-:scratch")
    ('low confidence', 'scratch called')
    """
    kind, _, label = stream.removesuffix("/runs").partition(":")
    return f"{printable(label)} called" if label else EFFECTS.get(kind, printable(stream))


def printable(text: str) -> str:
    """A text of somebody else on one line: what would move the cursor or colour a terminal stands as a box.

    >>> printable("steel\\x1b[2J")
    'steel\ufffd[2J'
    """
    return "".join(each if each.isprintable() else "\ufffd" for each in text)


def say_effect(reading: Reading) -> str:
    """Effect with its 95 % interval: "low confidence 2.1x baseline (1.8 to 2.5)"."""
    if reading.frozen:
        return "the camera repeats the same picture"
    if reading.ratio is None or reading.ratio_low is None or reading.ratio_high is None:
        return f"{name_stream(reading.stream)} changed"
    return (
        f"{name_stream(reading.stream)} {say_ratio(reading.ratio)}x baseline "
        f"({say_ratio(reading.ratio_low)} to {say_ratio(reading.ratio_high)})"
    )


def say_evidence(reading: Reading) -> str:
    """Evidence behind the effect: e-value, independent frames, peers."""
    power = reading.score / 2.302585
    peers = f"{reading.peers} peer{'s' * (reading.peers != 1)}" if reading.peers else "no peers"
    return f"e-value 10^{power:.1f}, {reading.independent:.0f} independent frames, {peers}"


def say_time(at_ms: int) -> str:
    """UTC time of a wall clock in ms, the number itself where no calendar goes.

    >>> say_time(1_700_000_000_000), say_time(2**63)
    ('2023-11-14 22:13:20 UTC', '9223372036854775808 ms')
    """
    try:
        at = datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(milliseconds=at_ms)
    except OverflowError:
        return f"{at_ms} ms"
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"


def guess_cause(quality: Quality, *, frozen: bool = False, common: bool = False) -> str:
    """Likely cause from image quality against the device's own first reports.

    >>> guess_cause(Quality(seen=90, first=(120.0, 800.0, 2.0), recent=(118.0, 410.0, 2.0)))
    'lens: dirt or focus (sharpness 410, was 800)'
    >>> guess_cause(Quality(), common=True)
    'product or material: devices of the site changed together'
    """
    if frozen:
        return "camera: the picture stands still"
    if common:
        return "product or material: devices of the site changed together"
    if quality.seen == 0:
        return "unknown: the device sends no image quality"
    (light, sharp, clipped), (light0, sharp0, clipped0) = quality.recent, quality.first
    if clipped > clipped0 + 20:
        return f"light: over- or underexposed (clipped {clipped:.0f} per mille, was {clipped0:.0f})"
    contrast = sharp / max(sharp0, 1e-9) / max(light / max(light0, 1e-9), 1e-9) ** 2
    if sharp0 > 0 and contrast < 0.8:
        return f"lens: dirt or focus (sharpness {sharp:.0f}, was {sharp0:.0f})"
    if abs(light - light0) > max(0.12 * light0, 4):
        return f"light: brightness {light:.0f}, was {light0:.0f}"
    if sharp0 > 0 and contrast > 1.25:
        return f"product or focus: sharpness {sharp:.0f}, was {sharp0:.0f}"
    return "product or parts: the pictures look as sharp and as bright as before"


def say_ratio(ratio: float) -> str:
    """A ratio >= 0 with two figures at least, never in powers of ten.

    >>> say_ratio(0.234), say_ratio(2.14), say_ratio(138.7)
    ('0.23', '2.1', '139')
    """
    return f"{ratio:.0f}" if ratio >= 10 else f"{ratio:.2g}" if ratio >= 0.01 else f"{ratio:.2f}"
