"""The real agent as an ordinary user on a read-only root: it writes to its state folder and nowhere else."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
NOBODY = 65534
# every mount read-only but for /proc, /dev and the state folder
SEAL = """
set -e
mount --make-rprivate /
mount --bind "$STATE" "$STATE"
awk '{print $2}' /proc/mounts | grep -vE '^/(proc|dev)(/|$)' | grep -vxF "$STATE" | while read -r place; do
    mount -o remount,ro,bind "$place" 2>/dev/null || true
done
mount -o remount,rw,bind "$STATE"
exec "$@"
"""
WRITES = (
    'for place in / /tmp /var/tmp /etc "$HOME" "$PWD"; do ! touch "$place/x" 2>/dev/null || exit 9; done; exec "$@"'
)


def reachable(path: Path) -> bool:
    """Can any user come to this path?"""
    return all(one.stat().st_mode & stat.S_IXOTH for one in [path, *path.parents] if one.is_dir())


@pytest.fixture
def sealed():
    """`sealed(command, state)`: the command in a private mount namespace, as nobody where the test runs as root."""
    if not all(map(shutil.which, ("unshare", "setpriv", "mount"))):
        pytest.skip("system: unshare not found")
    namespace = ["unshare", "-m"] if os.geteuid() == 0 else ["unshare", "-rm"]
    if subprocess.run([*namespace, "true"], capture_output=True, check=False).returncode:
        pytest.skip("system: unshare is not allowed")
    drop = ["setpriv", "--no-new-privs", "--bounding-set=-all"]
    if os.geteuid() == 0:
        drop += [f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
        if not (reachable(Path(sys.base_prefix)) and reachable(Path(sys.prefix).resolve()) and reachable(ROOT)):
            read = "+dac_read_search"  # the interpreter lies in root's home: may read it, and still write nothing
            drop = [
                *drop[:2],
                f"--inh-caps=-all,{read}",
                f"--ambient-caps={read}",
                *drop[3:],
                f"--bounding-set=-all,{read}",
            ]

    def run(command: list[str], state: Path) -> subprocess.CompletedProcess[str]:
        environment = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "PYTHONPATH": str(ROOT), "STATE": str(state)}
        whole = [*namespace, "sh", "-c", SEAL, "sh", *drop, "sh", "-c", WRITES, "sh", *command]
        return subprocess.run(whole, env=environment, cwd="/", capture_output=True, text=True, timeout=120, check=False)

    return run


@pytest.fixture
def folder():
    """A folder that any user comes to."""
    path = Path(tempfile.mkdtemp(prefix="lineside-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


def test_frames_are_answered_and_only_the_state_folder_is_written(sealed, folder, make_bundle):
    bundle, state = folder / "steel.lineside", folder / "state"
    shutil.copy(make_bundle(), bundle)
    bundle.chmod(0o644)
    state.mkdir(0o700)
    if os.geteuid() == 0:
        os.chown(state, NOBODY, NOBODY)
    done = sealed(
        [sys.executable, "-m", "device_agent", "run", "--bundle", str(bundle), "--device", "press-1",
         "--state", str(state), "--source", "synthetic:size=64,fps=100", "--frames", "40", "--interval", "0.2",
         "--verdicts", "-"],
        state,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 40
    assert "unwritable" not in done.stderr and "Traceback" not in done.stderr
    assert {path.name for path in folder.iterdir()} == {"steel.lineside", "state"}
    assert any(state.rglob("*.db*")) or any(state.rglob("*.sqlite*"))
    if os.geteuid() == 0:
        assert {path.stat().st_uid for path in state.rglob("*")} == {NOBODY}


def test_the_seal_is_one_that_holds(sealed, folder):
    (folder / "state").mkdir()
    done = sealed(["touch", str(folder / "elsewhere")], folder / "state")
    assert done.returncode == 1 and "Read-only file system" in done.stderr
