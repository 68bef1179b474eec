"""A ledger of runs that never were, which the pages show as any other."""

import pytest
from django.core.management import call_command

from apps.orchestration.models import Reject, RowCount, Run, Task
from apps.orchestration.people import VIEWER
from tests.conftest import Cli
from tests.dashboard.conftest import Came

in_process = pytest.mark.django_db(transaction=True, databases="__all__")


@in_process
def test_the_pages_show_it(came: Came) -> None:
    call_command("seed_ledger", "--runs", "120", "-v", "0")
    assert (Run.objects.count(), Task.objects.count(), RowCount.objects.count(), Reject.objects.count()) == (120, 1_200, 360, 30)
    answer = came(VIEWER).get("/admin/")
    assert answer.status_code == 200 and [len(figure.lines) for figure in answer.context["history"]] == [30, 30]


def test_it_refuses_beside_real_runs(run_cli: Cli) -> None:
    run_cli("migrate_all")
    assert run_cli("seed_ledger", "--runs", "3").returncode == 0
    again = run_cli("seed_ledger", "--runs", "3")
    assert again.returncode == 2 and again.stderr.count("\n") == 1 and "--force" in again.stderr
    assert run_cli("seed_ledger", "--runs", "3", "--force").returncode == 0
