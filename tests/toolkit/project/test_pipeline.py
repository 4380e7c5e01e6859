"""The pipeline that `lineside init` writes is run by DVC from images to a bundle, and only what is stale runs again."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
PROFILE = 'id = "tiny"\nextends = "generic-x86-64"\nname = "Tiny"\nartifacts = ["onnx-fp32"]\n'
TRAIN = "--model mobilenet-v3-small --minimalistic --width 0.1 --size 32 --epochs 2 --seed 0 --prevalence good=0.99"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with drawn images and a training of seconds, in which nothing has run yet."""
    pytest.importorskip("dvc")
    folder = tmp_path_factory.mktemp("project")
    _run(folder, "lineside", "init", ".", "--data", "data/steel", "--name", "steel", "--prevalence", "good=0.99")
    _run(folder, "lineside", "data", "synth", "data/steel", "--images", "240", "--size", "32", "--contrast", "3")
    (folder / "profiles.d").mkdir()
    (folder / "profiles.d" / "tiny.toml").write_text(PROFILE)
    params = (folder / "params.yaml").read_text()
    old = "--recipe auto --model mobilenet-v2 --width 0.35 --size 96 --seed 0 --prevalence good=0.99"
    assert old in params
    params = params.replace(old, TRAIN).replace("generic-x86-64", "tiny").replace("macro-f1=0.80", "macro-f1=0.01")
    (folder / "params.yaml").write_text(params)
    _run(folder, "dvc", "init", "--no-scm", "--quiet")
    _run(folder, "dvc", "config", "core.analytics", "false")
    _run(folder, "dvc", "config", "core.check_update", "false")
    return folder


def test_from_images_to_a_bundle_and_only_what_is_stale_again(project: Path) -> None:
    first = _run(project, "dvc", "repro")
    assert "Running stage 'pack'" in first
    assert (project / "bundles" / "steel-tiny.lineside").is_file()
    assert (project / "reports" / "model.html").is_file()
    assert (project / "reports" / "data.html").is_file()

    assert "Running stage" not in _run(project, "dvc", "repro"), "nothing changed"

    params = project / "params.yaml"
    params.write_text(params.read_text().replace("--escape-cost 500", "--escape-cost 900"))
    ran = _stages(_run(project, "dvc", "repro"))
    assert ran == {"operating-point", "pack", "report"}

    params.write_text(params.read_text().replace("--seed 0", "--seed 1"))
    ran = _stages(_run(project, "dvc", "repro"))
    assert {"train", "convert", "evaluate"} <= ran
    assert "check" not in ran


def _stages(text: str) -> set[str]:
    return {line.split("'")[1] for line in text.splitlines() if line.startswith("Running stage")}


def _run(folder: Path, program: str, *words: str) -> str:
    command = [str(Path(sys.executable).parent / program), *words]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = os.environ | {"PATH": path, "DVC_NO_ANALYTICS": "1", "DVC_SITE_CACHE_DIR": str(folder / ".site")}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=280, check=False
    )
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
    return done.stdout
