"""The demo from beginning to end."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import msgspec

from device_agent.contract.errors import BadInput
from toolkit.demo.build import CONTRAST, WEIGHTS, Built, Plan, Row, Say, Stages, build
from toolkit.demo.judgement import PAGE_WITHIN_INTERVALS, Expectation, Judgement, judge
from toolkit.demo.plant import CAMERAS, CHANGED, DIRTY, INTERVAL_S, Plant
from toolkit.demo.programs import Programs, ended_by_sigterm, wait_until
from toolkit.paths import reading

QUIET_S = 10  # healthy reports before anything happens
APART_S = 4  # between the dirt and the change-over


class DemoResult(msgspec.Struct, frozen=True, kw_only=True):
    """Figures of one demo; all of them are measured in this run on this machine."""

    artifacts: list[Row]
    broker: str
    page: str
    dirty_device: str
    judgement: Judgement
    alerts: list[str]
    reports: int
    stages_s: dict[str, float]
    total_s: float
    provenance: str = "measured"


def run_demo(
    folder: Path, *, data: Path | None, weights: Path | None, once: bool, port: int | None, fresh: bool, say: Say
) -> DemoResult:
    """Build, start the plant, disturb it, and judge the alerts; without `once`, go on until Ctrl-C and judge then.

    Only what a demo made is replaced: `folder`/live always, with `fresh` also the run and the drawn images.

    Raises:
        BadInput: `data` lies where the demo writes, or `folder`/live holds something else.
        LinesideError: what the single steps raise.
    """
    live = folder / "live"
    _check_free(folder, data)
    began, stages = time.monotonic(), Stages(say)
    if data is not None and weights is None:
        weights = _weights_at_hand()
    built = build(Plan(folder=folder, data=data, weights=weights, fresh=fresh), stages)
    _say_table(built.rows, say)
    shutil.rmtree(live, ignore_errors=True)
    (live / "log").mkdir(parents=True)
    with ended_by_sigterm(), Programs(live / "log") as programs:
        plant = Plant(programs, live.resolve(), built.bundle.resolve(), _source(built, live), port)
        with stages.stage("start"):
            plant.start()
        say(f"{plant.broker} and five agents run; the page is {plant.page}")
        with stages.stage("watch"):
            expected = _disturb(plant, programs, say)
        if not once:
            _go_on(plant, programs, say)
        alerts = plant.alerts()
        reports = sum(plant.reports().values())
    for alert in alerts:
        if not alert.inhibited_by:
            say(f"{alert.severity}: {alert.text}")
    return DemoResult(
        artifacts=built.rows,
        broker=plant.broker,
        page=plant.page,
        dirty_device=DIRTY,
        judgement=judge(alerts, expected),
        alerts=[f"{alert.severity} {alert.scope}: {alert.text}" for alert in alerts if not alert.inhibited_by],
        reports=reports,
        stages_s=stages.seconds,
        total_s=round(time.monotonic() - began, 1),
    )


def _check_free(folder: Path, data: Path | None) -> None:
    """Refuse to write over images or over a folder that no demo made."""
    if data is not None:
        images, out = data.resolve(), folder.resolve()
        if out.is_relative_to(images) or any(images.is_relative_to(out / own) for own in ("run", "live")):
            raise BadInput(f"{data}: overlaps with what the demo writes to {folder}; name another folder with --out")
    live = folder / "live"
    with reading(live):
        names = {path.name for path in live.iterdir()} if live.exists() else set()
    if names and "log" not in names:
        raise BadInput(f"{live}: was not made by a demo and would be replaced; name another folder with --out")


def _disturb(plant: Plant, programs: Programs, say: Say) -> Expectation:
    _let_pass(QUIET_S, programs)
    dirty_ms = plant.disturb("dirt")
    say(f"now: the lens of {DIRTY} gets dirty")
    _let_pass(APART_S, programs)
    changeover_ms = plant.disturb("changeover")
    say(f"now: {CHANGED} changes over to another product")
    _let_pass(PAGE_WITHIN_INTERVALS * INTERVAL_S, programs)
    return Expectation(
        dirty_device=DIRTY,
        dirty_ms=dirty_ms,
        changeover_site=CHANGED,
        changeover_ms=changeover_ms,
        interval_ms=round(INTERVAL_S * 1000),
    )


def _let_pass(seconds: float, programs: Programs) -> None:
    end = time.monotonic() + seconds
    wait_until(lambda: time.monotonic() >= end, programs, what="the end of a pause", timeout_s=seconds + 60)


def _go_on(plant: Plant, programs: Programs, say: Say) -> None:
    """Until Ctrl-C: say each alert when it appears."""
    say(f"look at {plant.page}; Ctrl-C ends the demo")
    known: set[str] = set()
    try:
        while True:
            for alert in plant.alerts():
                if alert.id not in known and not alert.inhibited_by:
                    say(f"{alert.severity}: {alert.text}")
                known.add(alert.id)
            _let_pass(2, programs)
    except KeyboardInterrupt:
        say("ending")


def _source(built: Built, live: Path) -> str:
    """The agents' source: drawn parts that no model has seen, or the images of the test split."""
    if built.synthetic:
        return f"synthetic:good=0.99,contrast={CONTRAST:g}"
    from toolkit.runs import open_run

    run = open_run(built.run)
    dataset, line = run.dataset(), live / "line"
    for row in run.rows("test"):
        file = Path(str(dataset.files[row]))
        (line / file).parent.mkdir(parents=True, exist_ok=True)
        (line / file).symlink_to((built.data / file).resolve())
    return f"folder:{line.resolve()}"


def _weights_at_hand() -> Path | None:
    """The pretrained weights under LINESIDE_WEIGHTS, if they are there."""
    path = Path(os.environ.get("LINESIDE_WEIGHTS", "../shared/weights")) / WEIGHTS
    return path if path.is_file() else None


def _say_table(rows: list[Row], say: Say) -> None:
    say(f"{'artifact':<14} {'accuracy':>8} {'macro-F1':>8} {'= Keras':>8} {'p50 ms':>8} {'RSS MiB':>8} {'MiB':>6}")
    for row in rows:
        memory = "-" if row.rss_peak_mib is None else f"{row.rss_peak_mib:.0f}"
        say(
            f"{row.artifact:<14} {row.accuracy:>8.4f} {row.macro_f1:>8.4f} {row.agreement:>8.2%}"
            f" {row.p50_ms:>8.3f} {memory:>8} {row.size_mib:>6.2f}"
        )
    say(f"measured on this machine through the device's runtimes; {len(CAMERAS)} agents follow")
