"""Every row of the table: refused with its code and one sentence, without a traceback, a secret or a trace in a database."""

from collections import Counter
from collections.abc import Iterator

import pytest

from techmarket.commands import ExitCode
from tests.conftest import ROOT
from tests.refusals.case import Case, Kind
from tests.refusals.cases import CASES
from tests.refusals.stage import Stage, find_faults

AT_LEAST = 220


@pytest.fixture(scope="session")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    stage = Stage(tmp_path_factory.mktemp("refusals"))
    yield stage
    stage.close()


@pytest.mark.process
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.kind}: {case.what}")
def test_bad_input_is_refused(stage: Stage, case: Case) -> None:
    result = stage.run(case)
    assert not find_faults(case, result), (result.code, result.out[-1_000:], result.err[-2_000:])


def test_cases_are_distinct() -> None:
    assert len(CASES) >= AT_LEAST
    shown = Counter((case.kind, case.what) for case in CASES)
    typed = Counter((case.arguments, tuple(case.env.items()), case.content, str(case.request), id(case.damage)) for case in CASES)
    assert not [each for count in (shown, typed) for each, number in count.items() if number > 1]


def test_each_case_names_what_is_answered() -> None:
    assert not [case.what for case in CASES if len(case.text) < 6]


def test_exit_codes_are_documented() -> None:
    """In both languages, and no code of a case is another."""
    codes = {case.code for case in CASES if case.kind != Kind.PAGE}
    assert codes <= {int(code) for code in ExitCode}
    for document in ("OPERATIONS.md", "OPERATIONS.uk.md"):
        text = (ROOT / "docs" / document).read_text(encoding="utf-8")
        assert all(f"\n| {int(code)} |" in text for code in ExitCode), document
