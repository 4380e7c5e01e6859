"""False alarms of each test in a device-month of healthy lines: written by `benchmarks/drift/run.py`, not by hand."""

MEASURED_ON = "not measured yet"
FALSE_ALARMS_A_MONTH: dict[str, tuple[int, float, float]] = {}
"""Name: false alarms, device-months watched, upper 95 % limit of the rate a device-month."""
