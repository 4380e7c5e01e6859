"""What a program imports to answer --help: no framework, no numeric package."""

import json
import subprocess
import sys

import pytest

HEAVY = {
    "tensorflow",
    "keras",
    "numpy",
    "scipy",
    "sklearn",
    "cv2",
    "matplotlib",
    "onnx",
    "onnxruntime",
    "openvino",
    "nncf",
    "ai_edge_litert",
    "sqlalchemy",
    "nicegui",
    "fastapi",
    "paho",
    "cryptography",
}
SCRIPT = """
import importlib, json, sys
group = importlib.import_module(sys.argv[1]).cli
group.main(["--help"], standalone_mode=False)
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})), file=sys.stderr)
"""


@pytest.mark.parametrize("module", ["toolkit.cli", "device_agent.cli", "fleet.cli"])
def test_help_imports_nothing_heavy(module):
    done = subprocess.run([sys.executable, "-c", SCRIPT, module], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "Commands:" in done.stdout
    imported = set(json.loads(done.stderr.splitlines()[-1]))
    assert "click" in imported
    assert imported & HEAVY == set()
