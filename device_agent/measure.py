"""The benchmark: how long one inference takes, in a process of its own, so that the memory is the runtime's alone.

`python -m device_agent.measure MODEL --runtime litert --precision int8 --input INPUTSPEC.json` prints a
BenchmarkReport as JSON.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import click
import msgspec
import numpy as np

from device_agent import preprocess
from device_agent.console import run
from device_agent.contract.benchmark import BenchmarkReport
from device_agent.contract.errors import BadInput
from device_agent.contract.manifest import InputSpec
from device_agent.runtimes import Runtime, open_here

MIB = 1024**2
FRAME = (480, 640, 3)
KEPT_SAMPLES = 1000
DISTURBED = 1.3
Seconds = Callable[[], float]


class Effort(NamedTuple):
    """How long to measure: at least so many runs and seconds after the warm-up, at most so many runs."""

    runs: int
    seconds: float
    most_runs: int = 50_000


FULL = Effort(50, 10.0)
QUICK = Effort(50, 1.0)


class Start(NamedTuple):
    """What came before the runs, in ms: loading the model, and its first inference."""

    load_ms: float
    first_ms: float


class Samples(NamedTuple):
    """Times of each run in ms: on the wall, and of this thread on a CPU."""

    wall_ms: list[float]
    cpu_ms: list[float]


def measure(
    runtime_name: str,
    path: Path,
    spec: InputSpec,
    *,
    precision: str,
    threads: int = 1,
    effort: Effort = FULL,
    size_bytes: int | None = None,
    wall: Seconds = time.perf_counter,
    cpu: Seconds = time.thread_time,
) -> BenchmarkReport:
    """Load the model, warm it up until it is steady, and time it on noise, batch 1.

    `samples_ms` holds at most 1,000 of the times, evenly spread over the run. The report is not valid when the median
    is over 1.3 times the minimum, which is what a busy or throttled machine gives.

    Args:
        size_bytes: of all files of the artifact; the model file's own by default.
        wall, cpu: clocks in seconds.

    Raises:
        BadInput: not a model that the runtime can run.
        MissingPackage: the runtime is not installed.
    """
    frame = np.random.default_rng(0).integers(0, 256, FRAME, np.uint8)
    begun = wall()
    runtime = open_here(runtime_name, path, spec, threads=threads)  # its time and memory are those of this process
    loaded = wall()
    tensor = runtime.encode(preprocess.fit(frame, spec))
    encoded = wall()
    runtime.invoke(tensor)
    start = Start((loaded - begun) * 1e3, (wall() - encoded) * 1e3)
    warm_up(lambda: runtime.invoke(tensor), wall=wall)
    samples = repeat(lambda: runtime.invoke(tensor), effort, wall=wall, cpu=cpu)
    before = repeat(lambda: runtime.encode(preprocess.fit(frame, spec)), Effort(50, 0.1), wall=wall, cpu=cpu)
    runtime.close()
    size = path.stat().st_size if size_bytes is None else size_bytes
    return report(runtime, start, before, samples, precision=precision, threads=threads, size_bytes=size)


def report(
    runtime: Runtime,
    start: Start,
    before: Samples,
    samples: Samples,
    *,
    precision: str,
    threads: int,
    size_bytes: int,
) -> BenchmarkReport:
    """What the times of the runs add up to; `before` are the times of preprocessing."""
    times = np.array(samples.wall_ms)
    p50, p90, p99 = np.quantile(times, [0.5, 0.9, 0.99])
    flags = disturbances(samples, threads=threads)
    return BenchmarkReport(
        device=device_name(),
        runtime=runtime.name,
        runtime_version=runtime.version,
        precision=precision,
        threads=threads,
        provenance="measured",
        runs=len(times),
        p50_ms=float(p50),
        p90_ms=float(p90),
        p99_ms=float(p99),
        min_ms=float(times.min()),
        max_ms=float(times.max()),
        cpu_p50_ms=float(np.median(samples.cpu_ms)),
        preprocess_p50_ms=float(np.median(before.wall_ms)),
        load_ms=start.load_ms,
        first_inference_ms=start.first_ms,
        rss_peak_mib=peak_rss_mib(),
        size_mib=size_bytes / MIB,
        valid=not flags,
        flags=flags + clocks(),
        samples_ms=times[np.linspace(0, len(times) - 1, min(len(times), KEPT_SAMPLES)).astype(int)].round(6).tolist(),
    )


def warm_up(step: Callable[[], object], *, wall: Seconds, most_s: float = 3.0) -> int:
    """Run until the median of 10 runs is within 5 % of that of the 10 before, for 3 s at most; the number of runs."""
    end, last, runs = wall() + most_s, np.inf, 0
    while True:
        median = float(np.median(repeat(step, Effort(10, 0.0), wall=wall, cpu=wall).wall_ms))
        runs += 10
        if abs(median - last) <= 0.05 * median or wall() >= end:
            return runs
        last = median


def repeat(step: Callable[[], object], effort: Effort, *, wall: Seconds, cpu: Seconds) -> Samples:
    """Times of `step`, called as often and as long as `effort` says."""
    wall_ms: list[float] = []
    cpu_ms: list[float] = []
    end = wall() + effort.seconds
    while len(wall_ms) < effort.most_runs and (len(wall_ms) < effort.runs or wall() < end):
        cpu_start, start = cpu(), wall()
        step()
        stop, cpu_stop = wall(), cpu()
        wall_ms.append((stop - start) * 1e3)
        cpu_ms.append((cpu_stop - cpu_start) * 1e3)
    return Samples(wall_ms, cpu_ms)


def disturbances(samples: Samples, *, threads: int) -> list[str]:
    """Why the times are not those of a quiet machine; empty when they are.

    >>> disturbances(Samples([1.0, 2.0, 2.0], [1.0, 1.0, 1.0]), threads=1)
    ['p50 is 2.00 x the minimum', 'p50 is 2.00 ms on the wall and 1.00 ms on the CPU: other programs ran']
    """
    p50, least, on_cpu = float(np.median(samples.wall_ms)), min(samples.wall_ms), float(np.median(samples.cpu_ms))
    found = []
    if p50 > DISTURBED * least:
        found.append(f"p50 is {p50 / least:.2f} x the minimum")
    if threads == 1 and p50 > DISTURBED * on_cpu > 0:
        found.append(f"p50 is {p50:.2f} ms on the wall and {on_cpu:.2f} ms on the CPU: other programs ran")
    return found


def device_name() -> str:
    """Board or CPU model and number of cores of this machine."""
    board = _text("/proc/device-tree/model").strip("\0\n ")
    lines = _text("/proc/cpuinfo").splitlines()
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return f"{board or model or platform.machine()}, {os.cpu_count()} cores"


def clocks() -> list[str]:
    """Governor and clock of the first core, where the kernel tells."""
    folder = "/sys/devices/system/cpu/cpu0/cpufreq"
    governor, khz = _text(f"{folder}/scaling_governor").strip(), _text(f"{folder}/scaling_cur_freq").strip()
    found = [f"governor {governor}"] if governor else []
    return found + ([f"clock {int(khz) // 1000} MHz"] if khz.isdecimal() else [])


def peak_rss_mib() -> float | None:
    """Largest resident set that this process had so far, in MiB; None where the kernel does not tell."""
    line = next(_lines_of("/proc/self/status", "VmHWM:"), "")
    return int(line.split()[1]) / 1024 if line else None


def _lines_of(path: str, start: str) -> Iterator[str]:
    return (line for line in _text(path).splitlines() if line.startswith(start))


def _text(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""


@click.command("measure")
@click.argument("model", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--runtime", required=True, help="Name of the runtime.")
@click.option("--precision", required=True, help="fp32, fp16 or int8; copied into the report.")
@click.option("--input", "input_json", required=True, help="The InputSpec as JSON.")
@click.option("--threads", type=click.IntRange(1, 64), default=1, show_default=True)
@click.option("--size-bytes", type=int, help="Size of all files of the artifact.")
@click.option("--quick", is_flag=True, help="Measure for 1 s instead of 10.")
def command(
    model: Path, runtime: str, precision: str, input_json: str, threads: int, size_bytes: int | None, quick: bool
) -> None:
    """Time MODEL and print a BenchmarkReport as JSON.

    \b
    Example: python -m device_agent.measure model.tflite --runtime litert --precision int8 \\
                 --input '{"height": 96, "width": 96}' --quick
    """
    try:
        spec = msgspec.json.decode(input_json, type=InputSpec)
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise BadInput(f"--input: {str(error).lower()}") from error
    measured = measure(
        runtime,
        model,
        spec,
        precision=precision,
        threads=threads,
        effort=QUICK if quick else FULL,
        size_bytes=size_bytes,
    )
    click.echo(msgspec.json.encode(measured).decode())


if __name__ == "__main__":
    run(command)
