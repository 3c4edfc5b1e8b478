"""Hooks for an environment without torch, or without the frameworks: a test that needs a package that is not there is skipped.

Which tests those are is not written down anywhere: they are what an import in them, or in what they use, asks for. In `make test`
a missing package fails its tests.
"""

from __future__ import annotations

import os
import re
from collections.abc import Generator

import pytest

OURS = ("clipcal", "benchmarks", "sample_models", "tools", "conftest")
DECLARED = ("numpy", "pydantic", "rich", "typer", "yaml")  # what clipcal cannot be without
MISSING = re.compile(r"ModuleNotFoundError: No module named '(\w+)")


def optional(package: str) -> bool:
    return package.partition(".")[0] not in (*OURS, *DECLARED)


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    missing = MISSING.findall(report.longreprtext) if report.failed else []
    if missing and optional(missing[-1]):
        report.outcome = "skipped"
        report.longrepr = (str(collector.path), 0, f"Skipped: needs {missing[-1]}")
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    error = call.excinfo.value if call.excinfo else None
    if report.failed and isinstance(error, ModuleNotFoundError) and optional(error.name or ""):
        report.outcome = "skipped"
        report.longrepr = (str(item.path), 0, f"Skipped: needs {error.name}")
    return report


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A run that skipped nearly everything is no success: CLIPCAL_TESTS_AT_LEAST tests must have passed."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    at_least = int(os.environ.get("CLIPCAL_TESTS_AT_LEAST", "0"))
    if reporter is None or hasattr(session.config, "workerinput"):
        return
    num_passed = len(reporter.stats.get("passed", ()))
    if session.exitstatus == 0 and num_passed < at_least:
        reporter.write_line(
            f"\n{num_passed} tests passed, expected at least {at_least}: more than before is skipped", red=True
        )
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
