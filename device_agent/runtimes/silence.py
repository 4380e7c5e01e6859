"""Runtimes and converters without their telemetry.

OpenVINO and NNCF look up an analytics host when they are imported and leave files in HOME; ONNX Runtime does the same
from native code for Microsoft's.
"""

from __future__ import annotations

import os
import sys
from types import ModuleType

from device_agent.contract.optional import require

SWITCHES = {"NNCF_CI": "1", "ORT_DISABLE_TELEMETRY": "1"}


def require_silent(module: str, *, extra: str) -> ModuleType:
    """`require` for a package that would send telemetry: the first import of one of them has to come this way.

    OpenVINO and NNCF send through the package openvino_telemetry and do without where there is none, so here there is
    none; `SWITCHES` are the packages' own. Nothing of this is undone later.

    Raises:
        MissingPackage: the package, or a package that it needs, cannot be imported.
    """
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    os.environ.update(SWITCHES)
    return require(module, extra=extra)
