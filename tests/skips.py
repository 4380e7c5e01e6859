"""The account of skipped tests: listed by reason at the end; with --strict-skips an unnamed reason fails the run."""

from __future__ import annotations

import os
from collections import defaultdict
from pathlib import Path

import pytest

EXPECTED = Path(__file__).with_name("expected_skips.txt")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--strict-skips",
        action="store_true",
        help="fail on a skip whose reason is not in tests/expected_skips.txt (or in the file that the environment "
        "variable LINESIDE_EXPECTED_SKIPS names; setting it has the same effect as this option)",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Account(config), "lineside-skip-account")


def expected_reasons(path: Path) -> list[str]:
    """Beginnings of the reasons that are expected; empty lines and lines with # are comments."""
    lines = (line.strip() for line in path.read_text().splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def unexpected(reasons: list[str], expected: list[str]) -> list[str]:
    """Those reasons that begin with none of the expected ones, sorted."""
    return sorted(reason for reason in reasons if not any(reason.startswith(start) for start in expected))


class Account:
    """Collects skips while the tests run and has its say at the end."""

    def __init__(self, config: pytest.Config) -> None:
        named = os.environ.get("LINESIDE_EXPECTED_SKIPS")
        self.strict = bool(named or config.getoption("--strict-skips"))
        self.path = Path(named) if named else EXPECTED
        self.by_reason: dict[str, list[str]] = defaultdict(list)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._note(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self._note(report)

    def _note(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        if report.skipped and not hasattr(report, "wasxfail"):
            text = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
            self.by_reason[text.removeprefix("Skipped: ")].append(report.nodeid)

    def bad(self) -> list[str]:
        """Reasons that fail a strict run."""
        return unexpected(list(self.by_reason), expected_reasons(self.path)) if self.strict else []

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self.bad() and session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if not self.by_reason:
            return
        bad = self.bad()
        terminalreporter.section("skipped, by reason")
        for reason in sorted(self.by_reason):
            note = "  <- not in the list of expected skips" if reason in bad else ""
            terminalreporter.line(f"{reason}{note}")
            for nodeid in self.by_reason[reason]:
                terminalreporter.line(f"    {nodeid}")
        if bad:
            terminalreporter.line(
                f"{len(bad)} unexpected reason(s): the run has failed; {self.path.name} names the rest"
            )
