"""An explanation as rows and sentences, the same on the terminal and on the page."""

from __future__ import annotations

from toolkit.explanation.explanation import Cause, Explanation, Outcome

Rows = tuple[list[str], list[list[str]]]
NOISE = 0.03
"""By which share two copies of one file may differ in latency: where they lie in memory."""


def layer_rows(found: Explanation, most: int | None = None) -> Rows:
    """A row a layer, in the order of the graph; only the `most` that have the largest part in the noise."""
    worst = sorted(found.layers, key=lambda each: -each.harm)[:most]
    whole = sum(each.harm**2 for each in found.layers) or 1.0
    columns = [
        "layer",
        "kind",
        "SQNR dB",
        "own dB",
        "weights dB",
        "noise",
        "range",
        "used",
        "clipped",
        "dead",
        "narrow",
    ]
    rows = []
    for one in (each for each in found.layers if each in worst):
        rows.append(
            [
                f"{max(one.number, 0)} {one.name}" if one.number >= 0 else one.name,
                one.kind,
                f"{one.sqnr_db:.1f}",
                f"{one.own_db:.1f}",
                f"{one.weights_db:.1f}" if one.weights_db < 120 else "-",
                f"{one.harm**2 / whole:.1%}",
                f"{one.low:.3g} to {one.high:.3g}",
                f"{one.used:.0%}",
                f"{one.clipped:.2%}" if one.clipped else "-",
                f"{one.dead}/{one.channels}",
                str(one.narrow),
            ]
        )
    return columns, rows


def cause_rows(found: Explanation) -> Rows:
    """A row a fix, the cause named at its first."""
    columns = ["cause", "noise", "evidence", "fix", "error", "agreement", "points", "ms"]
    rows = []
    for cause in found.causes:
        start = [f"{cause.cause}: {_where(cause)}", f"{cause.share:.1%}", cause.evidence]
        for one in cause.fixes:
            rows.append([*start, one.fix, *_gains(one)])
            start = ["", "", ""]
    start = ["all layers", "100.0%", "whatever the cause"]
    for one in found.general:
        rows.append([*start, one.fix, *_gains(one)])
        start = ["", "", ""]
    return columns, rows


def _where(cause: Cause) -> str:
    return cause.worst if len(cause.layers) == 1 else f"{cause.worst} and {len(cause.layers) - 1} more"


def _gains(one: Outcome) -> list[str]:
    if one.judgement is None:
        return [one.why_not, "", "", ""]
    judged = one.judgement
    points = (
        "-"
        if judged.points is None
        else f"{judged.points:+.1f} ({judged.points_low:+.1f} to {judged.points_high:+.1f})"
    )
    gain = f"{-judged.gain:+.0%} ({-judged.gain_high:+.0%} to {-judged.gain_low:+.0%})"
    return [gain, f"{judged.agreement:.1%}", points, _milliseconds(one)]


def _milliseconds(one: Outcome) -> str:
    if one.time is None:
        return "-"
    more = one.time
    return f"{more.more_ms:+.3f}" if more.differs else f"{more.more_ms:+.3f} (within noise)"


def sentences(found: Explanation) -> list[str]:
    """What was compared on what, and what the tables do not hold."""
    stored = found.stored.judgement
    said = [
        f"{found.path}, against {found.compared}; layers on {found.images} images, fixes on {found.judged}",
        f"error of the answers {found.error:.3f} of their spread (root mean square); the layers' own parts, were they "
        f"independent, would make {found.predicted_error:.3f}",
    ]
    if stored is not None:
        score = "" if stored.macro_f1 is None else f", macro-F1 {stored.macro_f1:.3f}"
        said.append(f"as it is: mean error {stored.error:.3f} of the spread, agreement {stored.agreement:.1%}{score}")
    if found.recentred:
        said.append(
            "the bias of the last layer was corrected after each fix, as the converter does; the error is against that "
            "of the file with the same correction"
        )
    if found.stored.time is not None:
        time = found.stored.time
        said.append(
            f"as it is: {time.p50_ms:.3f} ms (median of {time.runs} runs, 95 % {time.low_ms:.3f} to "
            f"{time.high_ms:.3f}), measured in turn with all fixes on {time.device}, 1 thread"
        )
        said += [f"not a quiet machine: {flag}" for flag in time.flags]
    return said + _worth(found) + _saturation(found)


def _worth(found: Explanation) -> list[str]:
    """The fixes that surely help: the interval of the error, or of the latency, lies on the good side, and the other is
    not surely worse. Latency has to fall by more than two copies of one file can differ by."""
    said = []
    least = NOISE * (found.stored.time.p50_ms if found.stored.time is not None else 0)
    for where, one in [(f"{_where(cause)}: ", each) for cause in found.causes for each in cause.fixes] + [
        ("all layers: ", each) for each in found.general
    ]:
        if one.judgement is None:
            continue
        faster = one.time is not None and one.time.more_high_ms < -least
        slower = one.time is not None and one.time.more_low_ms > least
        nearer, farther = one.judgement.gain_low > 0, one.judgement.gain_high < 0
        if (nearer and not slower) or (faster and not farther):
            cost = "" if one.time is None else f", {_milliseconds(one)} ms"
            said.append(f"worth having: {where}{one.fix} (error {-one.judgement.gain:+.0%}{cost})")
    return said or ["no fix that was tried surely helps"]


def _saturation(found: Explanation) -> list[str]:
    vnni = [flag for flag in found.machine if "vnni" in flag]
    here = f"this processor has {', '.join(vnni)} and adds in 32 bits" if vnni else "this processor has no VNNI"
    if found.saturations is None:
        return ["saturation without VNNI: not predicted, no kernel of the file is int8"]
    if not found.saturations:
        return [f"saturation without VNNI: no pair of products can go over 16 bits; {here}"]
    likely = [each for each in found.saturations if each.likely > 0]
    worst = found.saturations[0]
    said = (
        f"saturation without VNNI (predicted, ONNX Runtime and OpenVINO on x86; LiteRT is not concerned): in "
        f"{len(likely)} layers pairs of products can go over 16 bits with the activations that were seen, most in "
        f"{worst.name} ({worst.likely:.1%} of its pairs); {here}; lineside's agent has both compute exactly "
        "where there is no VNNI, which takes longer"
    )
    fix = found.saturation_fix
    if fix is None or fix.judgement is None:
        return [said]
    judged = fix.judgement
    points = "" if judged.points is None else f", macro-F1 {judged.points:+.1f} points"
    cure = f"{fix.fix} would end it for other programs too: error {-judged.gain:+.0%}"
    return [said, f"{cure}, agreement {judged.agreement:.1%}{points}"]
