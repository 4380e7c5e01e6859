"""What the agent costs beside the runtime alone: rate, time a frame, memory, cold start, a second camera.

    python benchmarks/agent/run.py --write

Raw: the runtime with its model in a bare process, invoked again and again on one picture. Loop: the whole agent on a
drawn camera that is faster than the model, or as fast as it can be drawn. Both take turns in one run; "of raw" is the
median of the ratios of neighbouring turns. CPU time of the agent's main thread between two inferences is what the agent
itself costs: waiting for the camera is none of it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import click
import numpy as np

HERE = Path(__file__).parent
CASES = ((0.35, 96, "int8"), (1.0, 128, "int8"), (1.0, 224, "fp32"), (1.4, 320, "fp32"))
TURNS, SECONDS = 7, 3.0
RATE_FROM_MS, RATE_AIM, COST_AIM_MS, MEMORY_AIM_MIB, START_AIM_S, CAMERAS_AIM = 20.0, 0.95, 1.5, 30.0, 2.5, 1.9
STEPS = ("next", "encode", "classify", "begin", "answered", "keep_time")


@click.group(invoke_without_command=True)
@click.option("--write", is_flag=True, help="Write results.md beside this file.")
@click.option("--keep", type=click.Path(path_type=Path), default=Path("runs/agent"), help="Where bundles are kept.")
@click.pass_context
def main(context: click.Context, write: bool, keep: Path) -> None:
    """Print the tables."""
    if context.invoked_subcommand:
        return
    sys.path.insert(0, str(HERE))
    from bundles import bundle

    from converters.instruction_set import instruction_set

    bundles = {
        case: bundle(keep / "v2-{:g}-{}-{}.lineside".format(*case), alpha=case[0], size=case[1], precision=case[2])
        for case in CASES
    }
    lines = [
        "# The agent beside the bare runtime: measured",
        "",
        f"Machine: {instruction_set()}, {os.cpu_count()} cores, shared with other work. LiteRT, one thread;"
        f" {TURNS} turns of {SECONDS:g} s each, in one run. MobileNetV2, drawn weights, seed 0.",
        "",
        "| model | raw p50, ms | raw, 1/s | loop, 1/s | of raw | CPU beside invoke, p50 ms | aim |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    steps = ["| model | " + " | ".join(STEPS) + " |", "| --- " * (len(STEPS) + 1) + "|"]
    memory = []
    for case, path in bundles.items():
        turns = [(_child("raw", path), _child("loop", path)) for _ in range(TURNS)]
        raw, loop = ({key: median(turn[side][key] for turn in turns) for key in turns[0][side]} for side in (0, 1))
        share, cost = median(after["rate"] / before["rate"] for before, after in turns), loop["cost_ms"]
        slow = raw["p50_ms"] >= RATE_FROM_MS
        met = share >= RATE_AIM if slow else cost <= COST_AIM_MS
        aim = f"{RATE_AIM:.0%} of raw" if slow else f"{COST_AIM_MS:g} ms"
        name = "{:g} @{} {}".format(*case)
        lines.append(
            f"| {name} | {raw['p50_ms']:.2f} | {raw['rate']:.1f} | {loop['rate']:.1f} | {share:.1%} | {cost:.3f} |"
            f" {aim}: {'met' if met else 'missed'} |"
        )
        steps.append(f"| {name} | " + " | ".join(f"{loop[step]:.3f}" for step in STEPS) + " |")
        memory.append(
            f"| {name} | {raw['rss_mib']:.1f} | {loop['rss_mib']:.1f} | {loop['rss_mib'] - raw['rss_mib']:.1f} |"
            f" {loop['child_mib']:.1f} | {MEMORY_AIM_MIB:g}:"
            f" {'met' if loop['rss_mib'] - raw['rss_mib'] <= MEMORY_AIM_MIB else 'missed'} |"
        )
        click.echo("\n".join((lines[-1], steps[-1], memory[-1])), err=True)
    small = bundles[CASES[0]]
    starts = [_start(small) for _ in range(5)]
    one, two = (median(_cameras(small, count) for _ in range(TURNS)) for count in (1, 2))
    lines += [
        "",
        "CPU of each step of a frame in the main thread, p50 ms:",
        "",
        *steps,
        "",
        "| model | raw runtime, MiB | agent's main process, MiB | more | camera process, MiB | aim |",
        "| --- | --- | --- | --- | --- | --- |",
        *memory,
        "",
        "Resident sets at the end of each turn, cryptography loaded in both; spool, breaker and MQTT in the agent's.",
        "",
        f"Cold start to the first verdict: {median(starts):.2f} s (of {len(starts)}: {min(starts):.2f} to"
        f" {max(starts):.2f}), aim {START_AIM_S:g}: {'met' if median(starts) < START_AIM_S else 'missed'}.",
        "",
        f"Two cameras of 30/s on one runtime: {two:.1f}/s, one: {one:.1f}/s, {two / one:.2f} times, aim"
        f" {CAMERAS_AIM:g}: {'met' if two / one >= CAMERAS_AIM else 'missed'}.",
    ]
    click.echo("\n".join(lines))
    if write:
        (HERE / "results.md").write_text("\n".join(lines) + "\n")


def _child(kind: str, path: Path) -> dict[str, float]:
    command = [sys.executable, str(HERE / "run.py"), kind, str(path)]
    found: dict[str, float] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return found


def _start(path: Path) -> float:
    """Seconds from nothing to the first verdict on stdout."""
    with tempfile.TemporaryDirectory() as state:
        command = [sys.executable, "-m", "device_agent", "run", "--bundle", str(path), "--source", "synthetic"]
        command += ["--device", "press-1", "--state", state, "--verdicts", "-", "--frames", "1"]
        began = time.monotonic()
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
            assert process.stdout is not None and process.stdout.readline()
            return time.monotonic() - began


def _cameras(path: Path, count: int) -> float:
    """Frames a second with so many cameras of 30 frames a second."""
    return _child(f"cameras-{count}", path)["rate"]


@main.command()
@click.argument("path", type=click.Path(path_type=Path))
def raw(path: Path) -> None:
    """The runtime alone."""
    import cryptography.hazmat.primitives.asymmetric.ed25519
    import cryptography.hazmat.primitives.ciphers.aead  # noqa: F401

    model = _model(path, Path(tempfile.mkdtemp()))
    runtime = model.open(model.artifacts[0])
    tensor = runtime.encode(model.images[0])
    times, end = [], time.perf_counter() + SECONDS
    while (began := time.perf_counter()) < end:
        runtime.invoke(tensor)
        times.append(time.perf_counter() - began)
    _print(rate=len(times) / sum(times), p50_ms=1e3 * median(times), rss_mib=_rss("self"))


@main.command()
@click.argument("path", type=click.Path(path_type=Path))
def loop(path: Path) -> None:
    """The whole agent, with a clock around each step."""
    import cryptography.hazmat.primitives.asymmetric.ed25519
    import cryptography.hazmat.primitives.ciphers.aead  # noqa: F401

    _run(path, ["synthetic:size=96"], steps=True)


@main.command("cameras-1")
@click.argument("path", type=click.Path(path_type=Path))
def one_camera(path: Path) -> None:
    """A camera of 30/s."""
    _run(path, ["synthetic:size=96,fps=30"])


@main.command("cameras-2")
@click.argument("path", type=click.Path(path_type=Path))
def two_cameras(path: Path) -> None:
    """Two of them."""
    _run(path, ["synthetic:size=96,fps=30", "synthetic:size=96,fps=30,seed=1"])


def _run(path: Path, sources: list[str], *, steps: bool = False) -> None:
    from device_agent import agent, loop, station
    from device_agent.config import Camera, Settings
    from device_agent.frames import parse_source
    from device_agent.frames.capture import Capture
    from device_agent.runtimes import _Guarded  # its methods are where every inference passes

    spent: dict[str, list[float]] = {name: [] for name in (*STEPS, "invoke")}
    marks: list[tuple[float, float, float, float]] = []

    def timed(owner: Any, attribute: str, name: str) -> None:
        inner = getattr(owner, attribute)

        def outer(*args: Any, **kwargs: Any) -> Any:
            began = time.thread_time()
            try:
                return inner(*args, **kwargs)
            finally:
                spent[name].append(time.thread_time() - began)

        setattr(owner, attribute, outer)

    def invoke(self: Any, tensor: Any) -> Any:
        began, cpu = time.perf_counter(), time.thread_time()
        try:
            return inner_invoke(self, tensor)
        finally:
            marks.append((began, time.perf_counter(), cpu, time.thread_time()))

    inner_invoke = _Guarded.invoke
    _Guarded.invoke = invoke  # type: ignore[method-assign]
    if steps:
        timed(Capture, "next", "next")
        timed(_Guarded, "encode", "encode")
        timed(loop, "classify", "classify")
        for name in ("begin", "answered", "keep_time"):
            timed(station.Station, name, name)
    with tempfile.TemporaryDirectory() as folder:
        cameras = tuple(
            Camera(f"press-{k}", parse_source(text), None, Path(folder) / str(k)) for k, text in enumerate(sources)
        )
        sys.stderr = open(os.devnull, "w")  # noqa: PTH123, SIM115
        end: list[float] = []

        def stop() -> bool:
            if not end:
                end.append(time.perf_counter() + SECONDS + 1)
            if time.perf_counter() < end[0]:
                return False
            memory.update(rss_mib=_rss("self"), child_mib=_children_rss())
            return True

        memory: dict[str, float] = {}
        agent.run_agent(Settings(path, cameras, Path(folder)), stop)
    kept = [mark for mark in marks if mark[0] >= end[0] - SECONDS]
    gaps = [1e3 * (after[2] - before[3]) for before, after in pairwise(kept)]
    rate = (len(kept) - 1) / (kept[-1][0] - kept[0][0])
    _print(
        rate=rate,
        cost_ms=median(gaps),
        invoke_ms=1e3 * median(mark[1] - mark[0] for mark in kept),
        between_ms=1e3 * median(after[0] - before[1] for before, after in pairwise(kept)),
        **memory,
        **{name: 1e3 * median(spent[name]) if spent[name] else 0.0 for name in STEPS},
    )


def _model(path: Path, state: Path) -> Any:
    from device_agent.agent import open_model
    from device_agent.config import Settings

    return open_model(Settings(path, (), state))


def _rss(process: str) -> float:
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def _children_rss() -> float:
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return float(np.sum([_rss(child) for child in children]))


def _print(**found: float) -> None:
    click.echo(json.dumps(found))


if __name__ == "__main__":
    main()
