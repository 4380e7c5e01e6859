"""DeviceProfile: what a kind of device is, how fast and large a model on it may be, and where each figure is from."""

from __future__ import annotations

import re
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from device_agent.contract.manifest import RunSection

PROFILE_SCHEMA = "1.0"
ARTIFACTS = ("litert-fp32", "litert-int8", "onnx-fp32", "onnx-int8", "openvino-fp16", "openvino-int8")
SourceKind = Literal["measured", "vendor", "literature", "estimate"]
ArtifactName = Annotated[str, Meta(pattern="^[a-z0-9_]+-(fp32|fp16|int8)\\Z")]
ProfileId = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9.-]{0,47}\Z")]
PROFILE_ID = re.compile(r"[a-z0-9][a-z0-9.-]{0,47}")


class Figure(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A number and where it is from: `measured` by lineside on such a device, stated by its `vendor`, published by
    others (`literature`), or an `estimate` (for budgets: a choice)."""

    value: Annotated[float, Meta(ge=0)]
    kind: SourceKind
    source: Annotated[str, Meta(min_length=3)]


class Hardware(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The board in numbers; what is not known is None. GOPS count a multiply-add as two, over all cores. Powers are of
    the whole board at the wall."""

    cores: Figure | None = None
    clock_mhz: Figure | None = None
    ram_mib: Figure | None = None
    copy_mb_s: Figure | None = None
    peak_fp32_gops: Figure | None = None
    peak_fp16_gops: Figure | None = None
    peak_int8_gops: Figure | None = None
    throttle_c: Figure | None = None
    idle_w: Figure | None = None
    load_w: Figure | None = None


class Budgets(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a model may cost: p50 of one inference in ms, peak resident set of the runtime's process in MiB, size of the
    model's files in MiB. None: no budget."""

    p50_ms: Figure | None = None
    rss_mib: Figure | None = None
    size_mib: Figure | None = None


class RuntimeNote(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A runtime that lineside drives on this board: its package, the wheels that exist, and what it computes on."""

    package: str
    wheels: str = ""
    computes_on: str = "CPU"


class PublishedLatency(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One measurement that somebody published: mean or p50 of one inference in ms, batch 1. It is no promise for
    another runtime or version. threads None: not stated, or not a CPU."""

    model: str
    width: float
    input_px: int
    runtime: str
    precision: str
    threads: int | None = None
    ms: float
    kind: SourceKind = "literature"
    source: str


class DeviceProfile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A kind of device. `artifacts` (runtime-precision) stand in the order in which the agent falls back.

    `threads` and `affinity` (core numbers) are what inference gets; `accelerator` says in words what there is and
    whether lineside drives it, `accelerators` names the rules by which a model runs on it, such as "edgetpu". `python`
    are the versions of the board's usual systems.
    """

    schema: str = PROFILE_SCHEMA
    id: ProfileId
    name: str
    soc: str
    core: str
    arch: Literal["aarch64", "x86-64"]
    isa: str
    accelerator: str
    accelerators: list[ProfileId] = []
    system: str
    python: list[str]
    python_note: str = ""
    artifacts: Annotated[list[ArtifactName], Meta(min_length=1)]
    threads: Annotated[int, Meta(ge=1, le=64)] = 1
    affinity: list[Annotated[int, Meta(ge=0, le=1023)]] | None = None
    hardware: Hardware = Hardware()
    budgets: Budgets = Budgets()
    runtimes: dict[str, RuntimeNote] = {}
    latency: list[PublishedLatency] = []
    notes: list[str] = []
    this_machine: bool = False
    """True for a profile that stands for whatever machine lineside runs on: only there is a measurement a verdict."""

    @property
    def run(self) -> RunSection:
        """What the bundle's manifest tells the agent: threads, affinity and the budgets as bare numbers."""
        budgets = self.budgets
        return RunSection(
            threads=self.threads,
            affinity=self.affinity,
            latency_p50_ms=budgets.p50_ms.value if budgets.p50_ms else None,
            rss_mib=budgets.rss_mib.value if budgets.rss_mib else None,
            size_mib=budgets.size_mib.value if budgets.size_mib else None,
        )
