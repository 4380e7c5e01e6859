"""The benchmark of a bundle on the device: every artifact in a process of its own."""

from __future__ import annotations

import subprocess
import sys

import msgspec

from device_agent.config import Settings
from device_agent.contract.benchmark import BenchmarkReport
from device_agent.contract.bundle import read_bundle
from device_agent.contract.errors import BadInput
from device_agent.rungs import artifact_name, choose
from device_agent.unpacking import unpack

LIMIT_S = 180


def bench_bundle(settings: Settings, *, quick: bool = False) -> list[BenchmarkReport]:
    """A report for each artifact of the bundle, in its order.

    Raises:
        BadInput: an artifact cannot be measured here.
        TrustFailed, NotFound, NotWritable: as for `read_bundle` and `unpack`.
    """
    bundle = read_bundle(settings.bundle)
    folder, manifest = unpack(bundle, settings.state / "bundles"), bundle.manifest
    reports = []
    for artifact in choose(manifest, settings.artifact):
        command = [sys.executable, "-m", "device_agent.measure", str(folder / artifact.files[0].name)]
        command += ["--runtime", artifact.runtime, "--precision", artifact.precision]
        command += ["--threads", str(manifest.run.threads), "--input", msgspec.json.encode(artifact.input).decode()]
        command += ["--size-bytes", str(sum(file.size for file in artifact.files))] + ["--quick"] * quick
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
        except subprocess.TimeoutExpired:
            raise BadInput(f"{artifact_name(artifact)} was not measured within {LIMIT_S} s") from None
        if done.returncode:
            said = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
            raise BadInput(f"{artifact_name(artifact)} cannot be measured: {said.removeprefix('measure: ')}")
        reports.append(msgspec.json.decode(done.stdout.strip().splitlines()[-1], type=BenchmarkReport))
    return reports
