"""The account of skipped tests, on runs of pytest inside pytest."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PLUGIN = Path(__file__).with_name("skips.py")
TESTS = """
import pytest

def test_fine():
    pass

def test_without_timescale():
    pytest.skip("system: timescaledb not found")

@pytest.mark.skipif(True, reason="felt like it")
def test_unnamed():
    pass

@pytest.mark.xfail
def test_known_to_fail():
    assert False
"""


@pytest.fixture
def run(tmp_path):
    (tmp_path / "test_sample.py").write_text(TESTS)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "skips.py").write_text(PLUGIN.read_text())
    (tmp_path / "expected_skips.txt").write_text((PLUGIN.parent / "expected_skips.txt").read_text())

    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        clean = {key: value for key, value in os.environ.items() if not key.startswith(("LINESIDE", "PYTEST"))}
        command = [sys.executable, "-m", "pytest", "-p", "skips", "-p", "no:cacheprovider", *arguments]
        return subprocess.run(
            command,
            cwd=tmp_path,
            env={**clean, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", **environment},
            capture_output=True,
            text=True,
            timeout=60,
        )

    return run


def test_skips_are_listed_by_reason_and_name(run):
    done = run()
    assert done.returncode == 0, done.stdout
    assert "felt like it\n    test_sample.py::test_unnamed" in done.stdout
    assert "system: timescaledb not found\n    test_sample.py::test_without_timescale" in done.stdout
    assert "test_known_to_fail" not in done.stdout.split("skipped, by reason")[1]


def test_strict_fails_on_an_unnamed_reason_only(run):
    done = run("--strict-skips")
    assert done.returncode == 1
    assert "felt like it  <- not in the list" in done.stdout
    assert "timescaledb not found  <-" not in done.stdout
    assert run("--strict-skips", "-k", "not unnamed").returncode == 0


def test_the_environment_names_another_list(run, tmp_path):
    (tmp_path / "mine.txt").write_text("# ours\nfelt like\nsystem: time\n")
    assert run(LINESIDE_EXPECTED_SKIPS=str(tmp_path / "mine.txt")).returncode == 0
    (tmp_path / "mine.txt").write_text("")
    assert run(LINESIDE_EXPECTED_SKIPS=str(tmp_path / "mine.txt")).returncode == 1
