"""Print how many histories have been replayed, at what pace, and in the end what they consisted of."""

import time
from collections import Counter
from typing import Any

import pytest

FOUND = ("lines lost", "lines too many", "lines with other values")


class Progress:
    """Adds up the counts of all parallel workers, which the tests record as a property."""

    def __init__(self, terminal: Any):
        self.terminal = terminal
        self.tally: Counter[str] = Counter()
        self.began = time.monotonic()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        found = dict(report.user_properties).get("tally") if report.when == "call" else None
        if isinstance(found, dict):
            self.tally.update(found)
            count = self.tally["histories"]
            pace = count / (time.monotonic() - self.began) * 60
            self.terminal.write_line(f" {report.outcome}: seed {report.nodeid.split('[')[-1][:-1]}; {count} histories, {pace:.0f} a minute")

    def pytest_terminal_summary(self) -> None:
        if self.tally:
            self.terminal.section("histories")
            for name in ("histories", *sorted(self.tally.keys() - {"histories", *FOUND}), *FOUND):
                self.terminal.write_line(f"{self.tally[name]:>9,} {name}")


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    terminal = config.pluginmanager.get_plugin("terminalreporter")  # a parallel worker has none
    if terminal:
        config.pluginmanager.register(Progress(terminal))
