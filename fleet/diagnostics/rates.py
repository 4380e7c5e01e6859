"""False alarms of each test in a device-month of healthy lines: written by `benchmarks/drift/run.py`, not by hand."""

MEASURED_ON = "benchmarks/drift/run.py --quick, seed 2201"
FALSE_ALARMS_A_MONTH: dict[str, tuple[int, float, float]] = {
    "adwin": (0, 6.67, 0.449),
    "chi2": (26, 6.67, 5.41),
    "js": (0, 6.67, 0.449),
    "kl": (0, 6.67, 0.449),
    "ks": (9, 6.67, 2.36),
    "page-hinkley": (195, 6.67, 32.9),
    "psi": (0, 6.67, 0.449),
}
"""Name: false alarms (one that comes back within six hours is the same), device-months watched, upper 95 % limit of the
rate a device-month."""
