"""make bad: run every row of the table and print it with what came."""

import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Column, Table

from tests.refusals.case import Case, Kind, Result
from tests.refusals.cases import CASES
from tests.refusals.stage import Stage, wrongs

SHOWN = 160  # characters of a sentence or an address
if __name__ == "__main__":
    only = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        stage = Stage(Path(folder))
        for case in CASES:
            if only and case.kind not in only and case.what not in only:
                continue
            try:
                result = stage.run(case)
                bad = wrongs(case, result)
            except Exception as e:
                result, bad = Result(-1, "", ""), [repr(e)]
            text = result.out if case.kind == Kind.PAGE else result.err
            print("OK " if not bad else f"BAD {bad}", result.code, case.what, "|", case.where[:100].encode("utf8","backslashreplace").decode(), "|", text[:1500 if bad else 170].strip())
        stage.close()
