"""The message after an action on a run does not contradict the run that the page shows."""

import pytest
from django.urls import reverse

from apps.console.groups import OPERATOR
from apps.orchestration.models import Mode, Run, Stage, State, Trigger
from tests.console.conftest import SignIn, page_text

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")


@pytest.fixture
def failed_run(transactional_db: None, schedules: None) -> Run:
    run = Run.objects.create(mode=Mode.FULL, trigger=Trigger.CLI, requested_by="somebody", state=State.FAILED, cause="")
    run.tasks.create(stage=Stage.PLAN, state=State.FAILED)
    return run


@pytest.mark.parametrize("action", ["rerun", "resume"])
def test_message_says_the_state_that_the_run_has_by_now(failed_run: Run, sign_in: SignIn, action: str) -> None:
    client = sign_in(OPERATOR)
    client.post(reverse(f"admin:orchestration_run_{action}"), {"run": failed_run.pk, "reason": ""})
    run = Run.objects.latest("pk")
    assert run.state == State.QUEUED
    Run.objects.filter(pk=run.pk).update(state=State.FAILED)
    text = page_text(client, reverse("admin:orchestration_run_change", args=[run.pk]))
    assert f"Run {run.pk} : Failed." in text and f"Run {run.pk} queued" not in text and f"Run {run.pk} resumed" not in text


def test_message_about_a_run_in_the_same_state_stays(failed_run: Run, sign_in: SignIn) -> None:
    client = sign_in(OPERATOR)
    client.post(reverse("admin:orchestration_run_rerun"), {"run": failed_run.pk, "reason": ""})
    run = Run.objects.latest("pk")
    page = client.get(reverse("admin:orchestration_run_change", args=[run.pk])).content.decode()
    assert f"Run {run.pk} queued." in page and f'id="run-message-{run.pk}"' in page


def test_refresh_takes_the_message_away_once_the_run_has_another_state(failed_run: Run, sign_in: SignIn) -> None:
    address = reverse("admin:orchestration_run_now", args=[failed_run.pk])
    client, gone = sign_in(OPERATOR), f'<div id="run-message-{failed_run.pk}" hx-swap-oob="delete"></div>'
    assert gone in client.get(address, {"seen": "queued"}).content.decode()
    assert gone not in client.get(address, {"seen": "failed"}).content.decode()
