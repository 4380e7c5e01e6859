"""x86 processors whose 8-bit kernels saturate: those without VNNI.

There, ONNX Runtime and OpenVINO multiply unsigned activations and signed weights with VPMADDUBSW, which adds two
products in 16 bits and cuts off what does not fit (Intel 64 and IA-32 Architectures Software Developer's Manual, volume
2). The same file then gives other logits than on a processor with VNNI, by more than their spread, and says nothing.
Both runtimes can be told to compute exactly, which takes longer. LiteRT widens before it multiplies.
"""

from __future__ import annotations

import platform
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
_VNNI = {"avx_vnni", "avx512_vnni"}


def saturates() -> bool:
    """Whether this processor is such a one, or may be: an x86 whose instructions cannot be read counts as one."""
    return platform.machine().lower() in ("x86_64", "amd64", "i686") and not _VNNI & instructions()


def instructions() -> frozenset[str]:
    """What this processor says that it has, as Linux names it: "avx2", "asimddp"; empty where that cannot be read."""
    try:
        lines = CPUINFO.read_text().splitlines()
    except OSError:
        return frozenset()
    said = (line.partition(":")[2].split() for line in lines if line.startswith(("flags", "Features")))
    return frozenset(next(said, ()))
