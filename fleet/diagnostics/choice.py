"""The drift tests by name; packages add their own under `lineside.drift_tests`."""

from __future__ import annotations

from functools import partial

from device_agent.contract.plugins import Seam
from fleet.diagnostics.contract import BLOCK, LEVEL, DriftTest
from fleet.diagnostics.distances import BlockTest
from fleet.diagnostics.normal import Normal
from fleet.diagnostics.rates import FALSE_ALARMS_A_MONTH, MEASURED_ON

OURS = "ours"
TESTS = Seam(
    "drift_tests",
    {
        **{name: f"fleet.diagnostics.choice:{name}_test" for name in ("kl", "psi", "js", "ks", "chi2")},
        "page-hinkley": "fleet.diagnostics.sequential:PageHinkley",
        "adwin": "fleet.diagnostics.sequential:Adwin",
    },
)
SAYS = {
    "kl": "Kullback-Leibler divergence of the cells, nats",
    "psi": "population stability index of the cells",
    "js": "Jensen-Shannon distance of the cells, 0 to 1",
    "ks": "Kolmogorov-Smirnov statistic of the confidence",
    "chi2": "Pearson's chi-square of the cells",
    "page-hinkley": "Page-Hinkley sum of the mean confidence, standard errors",
    "adwin": "ADWIN on the mean confidence, difference over its cut-off",
}
kl_test, psi_test, js_test, ks_test, chi2_test = (
    partial(BlockTest, name) for name in ("kl", "psi", "js", "ks", "chi2")
)


def make_test(name: str, normal: Normal, *, level: float = LEVEL, block: int = BLOCK) -> DriftTest:
    """The test of a name, of as many devices as `normal` has rows.

    Args:
        name: one of `TESTS.names()`.
        level: chance of a false alarm in a block that the test is set to.
        block: reports.

    >>> TESTS.names()
    ['adwin', 'chi2', 'js', 'kl', 'ks', 'page-hinkley', 'psi']

    Raises:
        BadInput: there is no such test, or it refuses level or block.
    """
    test: DriftTest = TESTS.load(name)(normal, level=level, block=block)
    return test


def false_alarms(name: str) -> str:
    """False alarms of a test in a device-month, in words, as the benchmark measured them."""
    if name not in FALSE_ALARMS_A_MONTH:
        return "not measured"
    alarms, months, upper = FALSE_ALARMS_A_MONTH[name]
    return f"{alarms / months:.3g} a device-month, under {upper:.3g} at 95 % (measured, {MEASURED_ON})"
