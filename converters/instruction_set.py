"""What this machine multiplies bytes with, which decides how fast int8 is, and on x86 whether it is exact."""

from __future__ import annotations

import platform
from collections.abc import Set

from device_agent.runtimes.saturation import instructions

_BYTES = ("amx_int8", "avx512_vnni", "avx_vnni", "i8mm", "asimddp")
_LESS = ("avx512bw", "avx2", "avx", "sse4_1", "asimd", "neon")


def instruction_set(flags: Set[str] | None = None) -> str:
    """Machine and its best instructions for int8: "x86_64 amx_int8 avx512_vnni avx_vnni", "x86_64 avx2 without VNNI".

    Without VNNI, x86 adds two products of bytes in 16 bits, where they saturate.

    >>> instruction_set({"sse4_1", "avx", "avx2"}).partition(" ")[2]
    'avx2 without VNNI'
    """
    flags = instructions() if flags is None else flags
    found = [each for each in _BYTES if each in flags]
    if not found:
        found = [each for each in _LESS if each in flags][:1]
        found += ["without VNNI"] if found and found[0] not in ("asimd", "neon") else []
    return " ".join([platform.machine(), *found])
