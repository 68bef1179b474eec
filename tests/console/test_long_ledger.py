"""A ledger of 120 runs that the bench wrote, which the pages show as any other."""

import pytest

from apps.console.groups import VIEWER
from apps.orchestration.models import Reject, RowCount, Run, Task
from tests.bench.ledger import seed_ledger
from tests.console.conftest import SignIn


@pytest.mark.django_db(transaction=True, databases="__all__")
def test_pages_show_seeded_runs(sign_in: SignIn) -> None:
    seed_ledger(120)
    assert (Run.objects.count(), Task.objects.count(), RowCount.objects.count(), Reject.objects.count()) == (120, 1_200, 360, 30)
    answer = sign_in(VIEWER).get("/admin/")
    assert answer.status_code == 200 and [len(figure.lines) for figure in answer.context["history"]] == [30, 30]
