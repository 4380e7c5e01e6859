"""Alerts in words: the effect with its interval, since when, how sure, and what the pictures say of the cause."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from fleet.reading import Reading
from fleet.registry import Quality

COMMON_SHARE = 0.6
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
    """Effect with its 95 % interval, as measured: "low confidence 2.1x baseline (1.8 to 2.5)"."""
    if reading.frozen:
        return "the camera repeats the same picture"
    if reading.ratio is None or reading.ratio_low is None or reading.ratio_high is None:
        return f"{name_stream(reading.stream)} changed"
    return (
        f"{name_stream(reading.stream)} {say_ratio(reading.ratio)}x baseline "
        f"({say_ratio(reading.ratio_low)} to {say_ratio(reading.ratio_high)})"
    )


def say_evidence(reading: Reading) -> str:
    """Evidence behind the effect: e-value, independent frames, peers and the model that was watched."""
    power = reading.score / 2.302585
    peers = f"{reading.peers} peer{'s' * (reading.peers != 1)}" if reading.peers else "no peers"
    frames = f"{reading.independent:.0f} independent frames"
    return f"measured: e-value 10^{power:.1f}, {frames}, {peers}, model {reading.model}"


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


def guess_cause(
    quality: Quality,
    *,
    frozen: bool = False,
    common: bool = False,
    steady: int = 0,
    fresh_windows: int | None = None,
) -> str:
    """Likely cause of what one device shows, with the evidence for it: image quality against the device's own first
    reports, then its model's age, then its peers. Figures are measured.

    Args:
        quality: brightness and sharpness of the pictures now and at first.
        frozen: the camera repeats itself.
        common: the devices of the site changed together.
        steady: devices of the same site and product that look normal.
        fresh_windows: reports of the model so far, where the device has looked odd since the first of them.

    >>> guess_cause(Quality(seen=90, first=(120.0, 800.0, 2.0), recent=(118.0, 410.0, 2.0)))
    'lens: dirt or focus (sharpness 410, was 800)'
    >>> guess_cause(Quality(), common=True)
    'product or material: devices of the site changed together'
    >>> guess_cause(Quality(seen=9, first=(120.0, 800.0, 2.0), recent=(120.0, 800.0, 2.0)), fresh_windows=40)
    'model: odd since its first reports here (40 so far), pictures as sharp and as bright as before'
    """
    if frozen:
        return "camera: the picture stands still"
    if common:
        return "product or material: devices of the site changed together"
    of_image = _image_cause(quality)
    if of_image:
        return of_image
    if quality.seen == 0:
        seen = "unknown: the device sends no image quality"
    else:
        seen = "pictures as sharp and as bright as before"
    if fresh_windows is not None:
        return f"model: odd since its first reports here ({fresh_windows} so far), {seen.removeprefix('unknown: ')}"
    peers = f"; {steady} device{'s' * (steady != 1)} of the same site and product look normal" if steady else ""
    if quality.seen == 0:
        return seen + peers
    return f"product or parts: the pictures look as sharp and as bright as before{peers}"


def guess_common_cause(kind: str, count: int, changed: int, members: int, example: str, *, new_models: int) -> str:
    """Likely cause of what the devices of a site show together.

    Args:
        kind: the cause that most of them look like alone, as "light".
        count: how many of them do.
        changed: devices that changed.
        members: devices of the site and product.
        example: one of them with its own cause and figures.
        new_models: those that have looked odd since the first reports of their model.

    >>> guess_common_cause("light", 4, 4, 5, "cam-1: light: brightness 60, was 120", new_models=0)
    'light: 4 of the 4 devices that changed show it (cam-1: light: brightness 60, was 120)'
    >>> guess_common_cause("lens", 3, 3, 5, "cam-2: lens: dirt or focus", new_models=0)[:47]
    'product or material: 3 of 5 devices of the site'
    >>> guess_common_cause("product or parts", 4, 4, 5, "", new_models=0)
    'product or material: 4 of 5 devices of the site changed together, their pictures as sharp and as bright as before'
    """
    common = count >= COMMON_SHARE * changed
    if kind == "light" and common:
        return f"{kind}: {count} of the {changed} devices that changed show it ({example})"
    if new_models >= COMMON_SHARE * changed:
        return (
            f"model: {new_models} of the {changed} devices that changed are odd since the first reports of their model"
        )
    unchanged = ", their pictures as sharp and as bright as before" if kind.startswith("product") else ""
    if kind == "lens" and common:  # lenses get dirty one by one; a surface looks sharper or softer everywhere
        unchanged = f", and the sharpness of {count} of them ({example})"
    return f"product or material: {changed} of {members} devices of the site changed together{unchanged}"


def kind_of_cause(cause: str) -> str:
    """A cause without its figures.

    >>> kind_of_cause("lens: dirt or focus (sharpness 410, was 800)")
    'lens'
    """
    return cause.partition(":")[0]


def _image_cause(quality: Quality) -> str:
    """What the pictures themselves tell; empty where they look as before, or where nothing is known of them."""
    if quality.seen == 0:
        return ""
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
    return ""


def say_ratio(ratio: float) -> str:
    """A ratio >= 0 with two figures at least, never in powers of ten.

    >>> say_ratio(0.234), say_ratio(2.14), say_ratio(138.7)
    ('0.23', '2.1', '139')
    """
    return f"{ratio:.0f}" if ratio >= 10 else f"{ratio:.2g}" if ratio >= 0.01 else f"{ratio:.2f}"
