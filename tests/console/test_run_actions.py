"""The actions on runs: permissions, states, that only a POST acts, and the history afterwards."""

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse
from pytest_django.fixtures import Settings

from apps.console.groups import OPERATOR, VIEWER
from apps.demo import changes
from apps.orchestration import api
from apps.orchestration.models import Mode, Run, Stage, State, Trigger
from apps.orchestration.window import Window, today
from apps.orchestration.worker import delivery
from apps.sources.orders.models import OrderItem
from apps.warehouse.loads import Load
from apps.warehouse.models import FactSales
from techmarket.messages import message
from tests.console.conftest import SignIn, list_messages
from tests.orchestration.harness import FakeBroker, ago, fresh, start_queued_run

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")
VERBS = ("start", "rerun", "resume", "accept", "cancel")
FITS = {"rerun": State.SUCCEEDED, "resume": State.FAILED, "accept": State.FAILED, "cancel": State.QUEUED}
METHODS = ("get", "head", "post", "put", "patch", "delete")


def address(name: str, *args: Any) -> str:
    return reverse(f"admin:orchestration_run_{name}", args=args)


def make_run(state: State, **fields: Any) -> Run:
    return Run.objects.create(**{"mode": Mode.FULL, "trigger": Trigger.CLI, "requested_by": "somebody", "state": state} | fields)


def make_failed_run(mode: Mode = Mode.FULL) -> Run:
    """Return a run that failed in its plan, so that it can be resumed."""
    run = make_run(State.FAILED, mode=mode, cause="orders_db does not answer.")
    run.tasks.create(stage=Stage.PLAN, state=State.FAILED)
    return run


def make_fitting_run(verb: str) -> Run:
    """Return a run in whose state the action makes sense."""
    cause = message("brakes.applied", checks=["fact_sales: net deleted"], run=1) if verb == "accept" else ""
    return make_run(FITS[verb], cause=cause)


def sign_in_with(*rights: str) -> Client:
    """Return a client of a user with the permission to view runs and these others."""
    user, _ = User.objects.get_or_create(username="olena", defaults={"is_staff": True})
    user.user_permissions.set(Permission.objects.filter(codename__in=("view_run", *rights)))
    client = Client()
    client.force_login(user)
    return client


def row_counts(run: Run) -> dict[str, Any]:
    return dict(api.document(run)["tables"])


def read_history(client: Client, run: Run) -> str:
    return str(client.get(address("history", run.pk)).content.decode())


# --- Permissions ---


@pytest.mark.parametrize("verb", VERBS)
def test_each_action_needs_its_own_permission(broker: FakeBroker, verb: str) -> None:
    """With every permission but its own, neither page nor POST is allowed, by any method; with its own alone both are."""
    row = make_fitting_run(verb) if verb in FITS else None
    form = {"run": row.pk, "reason": "as planned"} if row else {"mode": "full"}
    before = list(Run.objects.values())
    others = sign_in_with(*(f"{other}_run" for other in VERBS if other != verb))
    for method in METHODS:
        assert getattr(others, method)(address(verb), form).status_code == 403, method
    assert list(Run.objects.values()) == before and not LogEntry.objects.exists() and not broker.sent
    mine = sign_in_with(f"{verb}_run")
    assert mine.get(address(verb), form).status_code == 200
    assert list(Run.objects.values()) == before, "a GET changes nothing"
    assert mine.put(address(verb) + f"?run={form.get('run', '')}").status_code == 405
    assert mine.post(address(verb), form).status_code == 302
    assert list(Run.objects.values()) != before or broker.sent


@pytest.mark.parametrize("verb", VERBS)
def test_request_without_csrf_token_is_refused(sign_in: SignIn, verb: str) -> None:
    row = make_fitting_run(verb) if verb in FITS else None
    strict = Client(enforce_csrf_checks=True)
    strict.cookies = sign_in(OPERATOR).cookies
    assert strict.post(address(verb), {"run": row.pk if row else "", "mode": "full"}).status_code == 403
    assert Run.objects.count() == (1 if row else 0) and (not row or fresh(row).state == row.state)


def test_no_action_without_the_permission_to_view_runs(sign_in: SignIn) -> None:
    client, row = sign_in_with("start_run", "cancel_run"), make_run(State.QUEUED)
    person = User.objects.get(username="olena")
    person.user_permissions.remove(Permission.objects.get(codename="view_run"))
    client.force_login(person)  # the session has ended with the rights it began with
    assert client.post(address("cancel"), {"run": row.pk}).status_code == 403
    assert client.post(address("start"), {"mode": "full"}).status_code == 403
    assert fresh(row).cancelled_by == ""


# --- States ---

SHOWN: dict[State, set[str]] = {
    State.QUEUED: {"cancel"},
    State.RUNNING: {"cancel"},
    State.SUCCEEDED: {"rerun"},
    State.FAILED: {"rerun", "resume"},
    State.LOST: {"rerun", "resume"},
    State.CANCELLED: {"rerun", "resume"},
    State.SKIPPED: {"rerun"},
}


@pytest.mark.parametrize("state", list(SHOWN))
def test_action_that_does_not_fit_the_state_is_hidden_and_refused(sign_in: SignIn, broker: FakeBroker, state: State) -> None:
    row, operator = make_run(state), sign_in(OPERATOR)
    page = operator.get(address("change", row.pk)).content.decode()
    assert {verb for verb in FITS if f"{address(verb)}?run={row.pk}" in page} == SHOWN[state]
    viewers = sign_in(VIEWER).get(address("change", row.pk)).content.decode()
    assert not [verb for verb in FITS if f"{address(verb)}?run=" in viewers]
    for verb in set(FITS) - SHOWN[state]:
        page_of_action = operator.get(address(verb), {"run": row.pk})
        assert f"run {row.pk} " in page_of_action.content.decode().lower() and not page_of_action.context["possible"], verb
        answer = operator.post(address(verb), {"run": row.pk, "reason": "all the same"}, follow=True)
        assert len(list_messages(answer)) == 1 and f"run {row.pk} " in list_messages(answer)[0].lower(), verb
        assert Run.objects.count() == 1 and fresh(row).state == state and not fresh(row).cancelled_by and not broker.sent
    assert not LogEntry.objects.exists()


def test_dry_run_is_not_resumed(sign_in: SignIn) -> None:
    row = make_run(State.FAILED, dry_run=True)
    page = sign_in(OPERATOR).get(address("change", row.pk)).content.decode()
    assert address("preview", row.pk) in page and address("rerun") in page and address("resume") not in page


def test_stale_run_is_not_resumed(sign_in: SignIn, broker: FakeBroker) -> None:
    row, operator = make_failed_run(), sign_in(OPERATOR)
    Run.objects.filter(pk=row.pk).update(based_on=0)
    later = make_run(State.SUCCEEDED)
    counts = {"run_id": later.pk, "run_uuid": later.uuid, "mode": "full", "counts": {}}
    Load.objects.create(**counts, published_at=row.created_at + timedelta(seconds=1))
    assert address("resume") not in operator.get(address("change", row.pk)).content.decode()
    answer = operator.post(address("resume"), {"run": row.pk}, follow=True)
    assert "its batches are stale" in list_messages(answer)[0] and fresh(row).state == State.FAILED


# --- Effects ---


def test_rerun(sign_in: SignIn, broker: FakeBroker) -> None:
    row, operator = make_failed_run(), sign_in(OPERATOR)
    answer = operator.post(address("rerun"), {"run": row.pk, "reason": "  the price list\tis mended "}, follow=True)
    run = Run.objects.get(rerun_of=row)
    assert answer.redirect_chain == [(address("change", run.pk), 302)] and f"Run {run.pk} queued." in list_messages(answer)[0]
    assert (run.state, run.requested_by, run.trigger, run.reason) == (State.QUEUED, OPERATOR, Trigger.ADMIN, "the price list is mended")
    assert run.worker == "" and broker.take_sent() == [run.tasks.get().pk], "executed by workers"
    assert "Rerun started: the price list is mended" in read_history(operator, row) and OPERATOR in read_history(operator, row)
    assert "Started: the price list is mended" in read_history(operator, run)


def test_resume(sign_in: SignIn, broker: FakeBroker) -> None:
    row, operator = make_failed_run(), sign_in(OPERATOR)
    answer = operator.post(address("resume"), {"run": row.pk, "reason": "it answers again"}, follow=True)
    assert answer.redirect_chain == [(address("change", row.pk), 302)] and fresh(row).state == State.QUEUED
    assert broker.take_sent() == [row.tasks.get().pk]
    assert "Resumed: it answers again" in read_history(operator, row)


def test_accept_records_who_and_why(sign_in: SignIn, broker: FakeBroker, small_shop: dict[str, int], settings: Settings) -> None:
    settings.ETL_MAX_REJECTED_PERCENT = 0
    OrderItem.objects.filter(pk=OrderItem.objects.earliest("pk").pk).update(quantity=0)
    run, operator = start_queued_run(), sign_in(OPERATOR)
    broker.deliver_all()
    page = operator.get(address("change", run.pk)).content.decode()
    assert "share rejected" in page and f"{address('accept')}?run={run.pk}" in page and "this is what the run would change" in page
    assert "share rejected" in operator.get(address("accept"), {"run": run.pk}).content.decode()
    answer = operator.post(address("accept"), {"run": run.pk, "reason": " "})
    assert answer.status_code == 200 and fresh(run).state == State.FAILED, "a reason is required"
    answer = operator.post(address("accept"), {"run": run.pk, "reason": "the row is lost"}, follow=True)
    assert f"Run {run.pk} accepted; it is being published." in list_messages(answer)[0]
    broker.deliver_all()
    run = fresh(run)
    assert (run.state, run.accepted_because) == (State.SUCCEEDED, "the row is lost") and FactSales.objects.exists()
    page = operator.get(address("change", run.pk)).content.decode()
    assert f"{run.accepted_by}: the row is lost" in page and "Before the run" in page
    assert "Accepted and published: the row is lost" in read_history(operator, run)


def test_cancel(sign_in: SignIn, broker: FakeBroker) -> None:
    row, operator = start_queued_run(), sign_in(OPERATOR)
    operator.post(address("cancel"), {"run": row.pk, "reason": "not today"})
    assert fresh(row).state == State.CANCELLED and fresh(row).cause == "Cancelled by operator: not today. Nothing was published."
    assert "Cancelled: not today" in read_history(operator, row)


def test_running_run_is_cancelled_once(sign_in: SignIn, broker: FakeBroker) -> None:
    row, operator = make_run(State.RUNNING, executor="local", worker="here:1"), sign_in(OPERATOR)
    answer = operator.post(address("cancel"), {"run": row.pk}, follow=True)
    assert "stops within ten seconds" in list_messages(answer)[0] and fresh(row).cancelled_by == OPERATOR
    assert address("cancel") not in operator.get(address("change", row.pk)).content.decode()
    assert "has already requested the cancellation" in list_messages(operator.post(address("cancel"), {"run": row.pk}, follow=True))[0]
    assert LogEntry.objects.count() == 1


def test_history_is_in_the_language_of_the_page(sign_in: SignIn, broker: FakeBroker) -> None:
    row, operator = make_failed_run(), sign_in(OPERATOR)
    operator.post(address("resume"), {"run": row.pk, "reason": "it answers again"})
    operator.cookies["django_language"] = "uk"
    assert "Продовжено: it answers again" in read_history(operator, row)


def test_reason_has_a_limit(sign_in: SignIn, broker: FakeBroker) -> None:
    row, operator = make_failed_run(), sign_in(OPERATOR)
    for reason in ("x" * 256, "null \0 byte"):
        answer = operator.post(address("rerun"), {"run": row.pk, "reason": reason})
        assert answer.status_code == 200 and answer.context["form"].errors["reason"]
    assert Run.objects.count() == 1


def test_unavailable_broker_is_reported(sign_in: SignIn, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*args: Any, **options: Any) -> None:
        raise OSError("no broker")

    monkeypatch.setattr(delivery.app, "send_task", away)
    answer = sign_in(OPERATOR).post(address("start"), {"mode": "full"}, follow=True)
    assert "The message broker is unavailable" in list_messages(answer)[0]
    run = Run.objects.get()
    page = answer.content.decode()
    assert run.state == State.QUEUED and "No worker has taken this run yet" not in page
    Run.objects.update(created_at=ago(seconds=11))
    assert "No worker has taken this run yet" in sign_in(VIEWER).get(address("change", run.pk)).content.decode()


# --- Bulk actions ---


def test_bulk_action_reports_each_run(sign_in: SignIn, broker: FakeBroker) -> None:
    """Of three runs one cannot be resumed, one is started, and one is skipped because the other is active."""
    runs, operator = [make_failed_run(), make_run(State.RUNNING), make_failed_run()], sign_in(OPERATOR)
    Run.objects.filter(pk=runs[1].pk).update(state=State.SUCCEEDED)
    chosen = {"action": "resume_selected", "_selected_action": [run.pk for run in runs]}
    page = operator.post(address("changelist"), chosen, follow=True)
    assert page.status_code == 200 and [refusal for _run, refusal in page.context["rows"]][1] and broker.sent == []
    answer = operator.post(address("resume"), {"run": [run.pk for run in runs], "reason": "all"}, follow=True)
    first, second, third = list_messages(answer)
    assert f"Run {runs[0].pk} resumed." in first and "has succeeded already" in second
    assert f"run {runs[0].pk} requested by" in third and answer.redirect_chain == [(address("changelist"), 302)]
    assert [fresh(run).state for run in runs] == [State.QUEUED, State.SUCCEEDED, State.FAILED]
    assert LogEntry.objects.count() == 1


def test_bulk_rerun_and_cancel(sign_in: SignIn, broker: FakeBroker) -> None:
    runs, operator = [make_failed_run(), make_failed_run()], sign_in(OPERATOR)
    operator.post(address("rerun"), {"run": [run.pk for run in runs]})
    states = list(Run.objects.filter(rerun_of__in=runs).order_by("pk").values_list("state", flat=True))
    assert states == [State.QUEUED, State.SKIPPED]
    operator.post(address("cancel"), {"run": [run.pk for run in Run.objects.all()], "reason": "all of it"})
    assert not Run.objects.filter(state=State.QUEUED).exists() and Run.objects.filter(cancelled_by=OPERATOR).count() == 1


def test_list_offers_permitted_actions(sign_in: SignIn) -> None:
    row = make_failed_run()
    for client, offered in ((sign_in(OPERATOR), True), (sign_in(VIEWER), False), (sign_in_with("cancel_run"), None)):
        page = client.get(address("changelist")).content.decode()
        assert [f"{verb}_selected" in page for verb in ("rerun", "resume", "cancel")] == (
            [False, False, True] if offered is None else [offered] * 3
        )
        assert (address("start") in page) == bool(offered)
    answer = sign_in_with().post(address("changelist"), {"action": "cancel_selected", "_selected_action": [row.pk]})
    assert answer.status_code in (200, 302) and address("cancel") not in answer.headers.get("Location", "")


@pytest.mark.parametrize("numbers", [[], ["x"], ["-1"], ["9" * 30], ["999999"], list(range(1, 60)), ["1;DROP TABLE x"]])
def test_invalid_run_numbers(sign_in: SignIn, numbers: list[Any]) -> None:
    make_run(State.QUEUED, pk=1)
    client = sign_in(OPERATOR)
    for call in (client.get, client.post):
        answer = call(address("cancel"), {"run": numbers})
        assert answer.status_code == 302 and answer.headers["Location"] == address("changelist")
    assert fresh(Run.objects.get()).cancelled_by == ""


# --- Run now ---


def start_form(**fields: str) -> dict[str, str]:
    return {"mode": "incremental", "run": "1"} | fields


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"start_date": "2024-01-01"}, "Give both a start and an end date"),
        ({"start_date": "2024-02-01", "end_date": "2024-01-31"}, "The end, 2024-01-31, is before the start, 2024-02-01."),
        ({"start_date": "20240101", "end_date": "2024-01-31"}, "'20240101' is not a day. Write it as 2024-01-31."),
        ({"start_date": "2024-02-30", "end_date": "2024-03-01"}, "There is no day 2024-02-30."),
        ({"start_date": "2014-12-31", "end_date": "2024-03-01"}, "no orders before 2015-01-01"),
        ({"start_date": "2024-01-01", "end_date": "2199-01-01"}, "in the future"),
        ({"start_date": "2024-01-01", "end_date": "2024-01-02", "mode": "full"}, "A full run takes everything"),
        ({"mode": "<script>"}, "Select a valid choice"),
        ({"mode": ""}, "This field is required"),
    ],
)
def test_start_refuses_what_run_etl_refuses(sign_in: SignIn, fields: dict[str, str], why: str) -> None:
    answer = sign_in(OPERATOR).post(address("start"), start_form(**fields))
    errors = [error for errors in answer.context["form"].errors.values() for error in errors]
    assert answer.status_code == 200 and len(errors) == 1 and why in errors[0] and not Run.objects.exists()
    assert "<script>" not in answer.content.decode().split('id="content"')[1].split("</form>")[0]


def test_start_queues_a_run(sign_in: SignIn, broker: FakeBroker, settings: Settings) -> None:
    day = today()
    answer = sign_in(OPERATOR).post(
        address("start"), start_form(start_date=day.isoformat(), end_date=day.isoformat(), reason="a late delivery")
    )
    run = Run.objects.get()
    assert answer.headers["Location"] == address("change", run.pk)
    assert (run.window_start, run.window_end) == (Window.between(day, day).start, Window.between(day, day).end)
    assert (run.mode, run.trigger, run.requested_by, run.reason, run.worker) == ("incremental", "admin", OPERATOR, "a late delivery", "")
    assert broker.take_sent() == [run.tasks.get().pk] and not run.dry_run
    second = sign_in("administrator").post(address("start"), start_form(), follow=True)
    assert f"was skipped: run {run.pk} is active" in list_messages(second)[0]


def test_start_form_is_filled_from_the_query_string(sign_in: SignIn) -> None:
    page = sign_in(OPERATOR).get(address("start"), {"mode": "full", "reason": '"><script>alert(1)</script>'}).content.decode()
    assert '<option value="full" selected' in page and "<script>alert(1)" not in page


def test_preview_then_run(sign_in: SignIn, small_shop: dict[str, int], broker: FakeBroker) -> None:
    """The run writes the counts that the preview has shown."""
    operator = sign_in(OPERATOR)
    api.run("full")
    changes.apply(15, 3)
    before = list(FactSales.objects.order_by("pk").values())
    answer = operator.post(address("start"), {"mode": "incremental", "preview": "1", "reason": "a look first"})
    dry = Run.objects.get(dry_run=True)
    preview = address("preview", dry.pk)
    assert answer.headers["Location"] == preview and dry.state == State.QUEUED
    waiting = operator.get(preview).content.decode()
    assert 'hx-trigger="every 2s"' in waiting and "No worker has taken this run yet" not in waiting
    Run.objects.filter(pk=dry.pk).update(created_at=ago(seconds=11))
    assert "No worker has taken this run yet" in operator.get(preview).content.decode()
    refused = operator.post(preview, {"reason": "now"}, follow=True)
    assert "has not succeeded" in list_messages(refused)[0] and Run.objects.count() == 2
    broker.deliver_all()
    ended = operator.get(preview)
    page = ended.content.decode()
    assert fresh(dry).state == State.SUCCEEDED and "every 2s" not in page
    assert list(FactSales.objects.order_by("pk").values()) == before
    months = ended.context["page"]["revenue"].months
    assert months and all(then - now == change == sum(parts) for _month, now, then, change, parts in months)
    assert ended.context["possible"] and 'name="reason"' in page and 'name="reason"' not in sign_in(VIEWER).get(preview).content.decode()
    operator.post(preview, {"reason": "as it was shown"})
    broker.deliver_all()
    run = Run.objects.get(rerun_of=dry)
    assert (run.state, run.dry_run, run.reason, run.mode) == (State.SUCCEEDED, False, "as it was shown", "incremental")
    counts = {
        table: [(name, row[name]) for name in ("inserted", "updated", "unchanged", "deleted")] for table, row in row_counts(run).items()
    }
    assert counts == {row.table: row.counts[1:5] for row in ended.context["page"]["rows"] if not row.is_lookup}
    assert "Preview started: a look first" in read_history(operator, dry) and "Started: as it was shown" in read_history(operator, run)


def test_preview_is_not_published_without_the_permission(sign_in: SignIn, broker: FakeBroker) -> None:
    dry = make_run(State.SUCCEEDED, dry_run=True, result={"run": 1, "tables": {}})
    assert sign_in(VIEWER).post(address("preview", dry.pk), {"reason": "x"}).status_code == 403
    assert Run.objects.count() == 1
    assert sign_in(OPERATOR).get(address("preview", make_run(State.SUCCEEDED).pk)).status_code == 404, "not a dry run"
