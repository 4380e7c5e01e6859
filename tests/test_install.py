"""The wheel in fresh environments: a device gets what it needs, and no training framework."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("device_agent", "profiles", "converters", "toolkit", "fleet")
FRAMEWORKS = {"tensorflow", "tensorflow-cpu", "keras", "torch", "onnx", "nncf", "scikit-learn", "nicegui", "sqlalchemy"}
pytestmark = pytest.mark.slow


def call(*command: str | Path, cwd: Path, ok: bool = True) -> subprocess.CompletedProcess[str]:
    outside = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, env=outside, capture_output=True, text=True, timeout=280
    )
    assert (done.returncode == 0) == ok, f"{command}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel, built from a copy of the tree so that nothing is left beside the sources."""
    tree = tmp_path_factory.mktemp("tree")
    for name in PACKAGES:
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree / name)
    call(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", tree / "dist", tree, cwd=tree)
    (built,) = (tree / "dist").glob("lineside-*.whl")
    return built


@pytest.fixture(scope="module")
def device(wheel, tmp_path_factory) -> Path:
    """The bin folder of an environment that has lineside[agent-litert] and nothing else."""
    folder = tmp_path_factory.mktemp("device")
    venv.create(folder, with_pip=True)
    pins = ROOT / "constraints" / f"python{sys.version_info.major}.{sys.version_info.minor}.txt"
    constraint = ["--constraint", pins] if pins.exists() else []
    call(folder / "bin/python", "-m", "pip", "install", "--quiet", *constraint, f"{wheel}[agent-litert]", cwd=folder)
    return folder / "bin"


def test_the_wheel_has_every_package_its_data_and_no_tests(wheel):
    import zipfile

    names = zipfile.ZipFile(wheel).namelist()
    assert {name.partition("/")[0] for name in names if ".dist-info" not in name} == set(PACKAGES)
    assert any(name.startswith("profiles/boards/") and name.endswith(".toml") for name in names)
    assert any(name.startswith("converters/rules/") and name.endswith(".toml") for name in names)
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_a_device_gets_no_training_framework(device):
    done = call(device / "python", "-m", "pip", "list", "--format", "freeze", cwd=device)
    installed = {line.partition("==")[0].lower() for line in done.stdout.splitlines()}
    assert {"lineside", "ai-edge-litert", "numpy", "paho-mqtt", "msgspec"} <= installed
    assert installed & FRAMEWORKS == set()
    assert not any(name.startswith("opencv") for name in installed)
    assert "No module named 'cv2'" in call(device / "python", "-c", "import cv2", cwd=device, ok=False).stderr


def test_the_agent_answers_there(device):
    assert "Commands:" in call(device / "lineside-agent", "--help", cwd=device).stdout
    assert "Usage:" in call(device / "lineside-agent", "run", "--help", cwd=device).stdout
    assert call(device / "python", "-m", "pip", "check", cwd=device).returncode == 0


def test_the_other_programs_name_the_extra_that_they_lack(device):
    done = call(device / "lineside", "train", "nowhere", "--out", "run", cwd=device, ok=False)
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) <= 4, done.stderr


def test_every_module_of_the_agent_imports_there(device):
    script = (
        "import pkgutil, importlib, device_agent\n"
        "for module in pkgutil.walk_packages(device_agent.__path__, 'device_agent.'):\n"
        "    importlib.import_module(module.name)\n"
    )
    call(device / "python", "-c", script, cwd=device)
