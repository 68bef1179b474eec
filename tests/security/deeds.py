"""The kinds of deeds, each done as a person does it: on a page of the admin, or by a command."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

from allauth.mfa.models import Authenticator
from allauth.mfa.recovery_codes.internal.auth import RecoveryCodes
from allauth.mfa.totp.internal.auth import TOTP, generate_totp_secret
from django.contrib.auth.models import Group, Permission, User
from django.core.management import call_command
from django.test import Client, override_settings
from django.urls import reverse
from django.utils import timezone
from django_celery_beat.models import CrontabSchedule, PeriodicTask

from apps.audit.models import Deed
from apps.audit.settings_seen import record_settings
from apps.console.groups import VIEWER
from apps.demo import shop
from apps.orchestration import api
from apps.orchestration.erasures import erase_pending
from apps.orchestration.models import CauseKind, Decision, Run, Schedule, ScheduledRun, StandingReject
from apps.orchestration.schedules import MODES
from apps.sources.orders.models import Customer
from techmarket.messages import message, store
from tests.security.provider import CLIENT, SECRET, run_provider

PASSWORD = "a long enough pass phrase"
OTHER_PASSWORD = "another long pass phrase"
CONFIRMED = {"post": "yes"}
DAILY = "techmarket-etl-daily"
WHEN = {"minute": "0", "hour": "4", "day_of_week": "*", "day_of_month": "*", "month_of_year": "*", "timezone": "UTC"}


@dataclass
class Stage:
    """A superuser signed in, and another user and a group to act on."""

    root: Client
    olena: User
    petro: User
    group: Group
    folder: Any

    def submit(self, page: str, *args: Any, **form: Any) -> Any:
        answer = self.root.post(reverse(f"admin:{page}", args=args), form)
        assert answer.status_code == 302, (page, getattr(answer, "context", None) and answer.context.get("errors"))
        return answer

    def change_petro(self, **changes: Any) -> None:
        form = {"username": "petro", "is_active": "on", "is_staff": "on", "groups": []} | changes
        self.submit("auth_user_change", self.petro.pk, **{name: value for name, value in form.items() if value is not None})


def set_stage(folder: Any) -> Stage:
    olena = User.objects.create_superuser("olena", password=PASSWORD)
    petro = User.objects.create_user("petro", password=PASSWORD, is_staff=True)
    root = Client(REMOTE_ADDR="198.51.100.7")
    root.force_login(olena)
    return Stage(root, olena, petro, Group.objects.create(name="night shift"), folder)


def log_in(client: Client, name: str, password: str) -> Any:
    return client.post(reverse("admin:login"), {"username": name, "password": password})


def start(stage: Stage, **form: str) -> Run:
    stage.submit("orchestration_run_start", mode="incremental", reason="as planned", **form)
    return Run.objects.latest("pk")


def fail(**fields: Any) -> Run:
    return Run.objects.create(state="failed", mode="incremental", trigger="cli", requested_by="x", **fields)


def add_reject() -> StandingReject:
    now = timezone.now()
    return StandingReject.objects.create(
        subject="fact_sales", table="order_items", row_id="1", rule="quantity_not_positive", params={}, raw={}, slice_id=1,
        first_run=1, last_run=1, first_seen=now, last_seen=now,
    )  # fmt: skip


def miss_run() -> ScheduledRun:
    schedule = Schedule.objects.get(name=DAILY)
    run = Run.objects.create(state="succeeded", mode="incremental", trigger="schedule", requested_by=DAILY)
    ScheduledRun.objects.create(schedule=schedule, scheduled_for=timezone.now() - timedelta(days=3), decision=Decision.RUN, run=run)
    return ScheduledRun.objects.create(schedule=schedule, scheduled_for=timezone.now(), decision=Decision.HELD)


def resolve(stage: Stage, resolution: str) -> None:
    stage.submit("orchestration_scheduledrun_resolve", miss_run().pk, resolution=resolution, reason="as planned")


def change_schedule(stage: Stage, **changes: Any) -> None:
    beat = PeriodicTask.objects.get(name=DAILY)
    form = {"enabled": "on", "crontab": beat.crontab_id} | changes
    stage.submit("django_celery_beat_periodictask_change", beat.pk, **{name: value for name, value in form.items() if value is not None})


def pause_and_resume(stage: Stage) -> None:
    change_schedule(stage, enabled=None)
    change_schedule(stage)


def change_crontab(stage: Stage) -> None:
    stage.submit("django_celery_beat_crontabschedule_change", PeriodicTask.objects.get(name=DAILY).crontab_id, **WHEN)


def give_other_crontab(stage: Stage) -> None:
    change_schedule(stage, crontab=CrontabSchedule.objects.create(**WHEN).pk)


def export(stage: Stage, kind: str) -> None:
    b"".join(stage.root.get(reverse(f"admin:orchestration_standingreject_{kind}")))


def brake() -> Run:
    return fail(cause_kind=CauseKind.DATA, cause=store(message("brakes.applied")))


def write_report(stage: Stage) -> None:
    shop.generate(20, 1)
    api.run("full")
    call_command("report", "--out", str(stage.folder / "report.html"), "-v", "0")


def view_customer(stage: Stage) -> None:
    shop.generate(20, 1)
    stage.root.get(reverse("admin:orders_db_customer_change", args=[Customer.objects.earliest("pk").pk]))


def ask_to_forget(stage: Stage) -> None:
    shop.generate(20, 1)
    stage.submit("orchestration_erasure_add", customer_id=Customer.objects.earliest("pk").pk, reason="R-12", confirmed="on")


def compare(stage: Stage) -> None:
    shop.generate(20, 1)
    api.run("full")
    call_command("reconcile", "--quiet")


def exceed_rate(stage: Stage) -> None:
    with override_settings(COSTLY_REQUESTS_PER_MINUTE=1):
        for _ in range(4):  # a new minute may begin between two
            stage.root.get(reverse("admin:orchestration_run_changelist"), {"q": "1"})


def end_session(stage: Stage) -> None:
    client = Client()
    log_in(client, "petro", PASSWORD)
    stage.change_petro(groups=[Group.objects.get(name=VIEWER).pk])
    client.get(reverse("admin:index"))


def add_factors(stage: Stage) -> None:
    """Give petro an authenticator app and recovery codes, as its page stores them."""
    TOTP.activate(stage.petro, generate_totp_secret())
    RecoveryCodes.activate(stage.petro)


def reset_factors(stage: Stage) -> None:
    add_factors(stage)
    stage.submit("auth_user_reset_second_factor", stage.petro.pk)


def use_recovery_code(stage: Stage) -> None:
    client = Client()
    add_factors(stage)
    log_in(client, "petro", PASSWORD)
    codes = Authenticator.objects.get(type=Authenticator.Type.RECOVERY_CODES).wrap()
    client.post(reverse("mfa_authenticate"), {"code": codes.get_unused_codes()[0]})


def refuse_provider(stage: Stage) -> None:
    """Log in at a provider of which no group means anything here."""
    with run_provider() as provider, override_settings(OIDC_URL=provider.url, OIDC_CLIENT_ID=CLIENT, OIDC_CLIENT_SECRET=SECRET):
        client = Client()
        callback = urlsplit(provider.authorize(client.get(reverse("oidc_login"))["Location"]))
        client.get(f"{callback.path}?{callback.query}")


Do = Callable[[Stage], Any]
DEEDS: dict[Deed, Do] = {
    Deed.LOGIN: lambda stage: log_in(Client(), "petro", PASSWORD),
    Deed.LOGIN_FAILED: lambda stage: log_in(Client(), "petro", "wrong"),
    Deed.LOGIN_REFUSED: lambda stage: [log_in(Client(), "petro", "wrong") for _ in range(6)],
    Deed.PROVIDER_LOGIN_REFUSED: refuse_provider,
    Deed.SESSION_ENDED: end_session,
    Deed.LOGOUT: lambda stage: stage.root.post(reverse("admin:logout")),
    Deed.USER_ADDED: lambda stage: stage.submit("auth_user_add", username="iryna", usable_password="false"),
    Deed.USER_CHANGED: lambda stage: stage.change_petro(email="petro@example.com"),
    Deed.USER_DEACTIVATED: lambda stage: stage.change_petro(is_active=None),
    Deed.USER_REACTIVATED: lambda stage: [stage.change_petro(is_active=None), stage.change_petro()],
    Deed.USER_DELETED: lambda stage: stage.petro.delete(),
    Deed.PASSWORD_CHANGED: lambda stage: stage.submit(
        "auth_user_password_change", stage.petro.pk, usable_password="true", password1=OTHER_PASSWORD, password2=OTHER_PASSWORD
    ),
    Deed.FACTOR_ADDED: add_factors,
    Deed.FACTOR_REMOVED: reset_factors,
    Deed.FACTORS_RESET: reset_factors,
    Deed.RECOVERY_CODE_USED: use_recovery_code,
    Deed.STAFF_CHANGED: lambda stage: stage.change_petro(is_staff=None),
    Deed.SUPERUSER_GRANTED: lambda stage: [setattr(stage.petro, "is_superuser", True), stage.petro.save()],
    Deed.SUPERUSER_REVOKED: lambda stage: [setattr(stage.olena, "is_superuser", False), stage.olena.save()],
    Deed.GROUPS_CHANGED: lambda stage: stage.change_petro(groups=[Group.objects.get(name=VIEWER).pk]),
    Deed.PERMISSIONS_CHANGED: lambda stage: stage.petro.user_permissions.add(Permission.objects.get(codename="view_run")),
    Deed.GROUP_ADDED: lambda stage: stage.submit("auth_group_add", name="accountants"),
    Deed.GROUP_CHANGED: lambda stage: stage.submit("auth_group_change", stage.group.pk, name="day shift"),
    Deed.GROUP_DELETED: lambda stage: stage.submit("auth_group_delete", stage.group.pk, **CONFIRMED),
    Deed.GROUP_PERMISSIONS_CHANGED: lambda stage: stage.submit(
        "auth_group_change", stage.group.pk, name="night shift", permissions=[Permission.objects.get(codename="view_run").pk]
    ),
    Deed.RUN_STARTED: lambda stage: start(stage),
    Deed.DRY_RUN_STARTED: lambda stage: start(stage, preview="1"),
    Deed.RUN_SKIPPED: lambda stage: [start(stage), start(stage)],
    Deed.RUN_RERUN: lambda stage: stage.submit("orchestration_run_rerun", run=fail().pk, reason="again"),
    Deed.RUN_RESUMED: lambda stage: stage.submit("orchestration_run_resume", run=fail().pk, reason="mended"),
    Deed.RUN_ACCEPTED: lambda stage: stage.submit("orchestration_run_accept", run=brake().pk, reason="the shop is closing"),
    Deed.RUN_CANCELLED: lambda stage: stage.submit("orchestration_run_cancel", run=start(stage).pk, reason="too late"),
    Deed.REJECTS_REPLAYED: lambda stage: stage.submit("orchestration_standingreject_replay", reject=add_reject().pk, reason="mended"),
    Deed.REJECTS_ACCEPTED: lambda stage: stage.submit("orchestration_standingreject_accept", reject=add_reject().pk, reason="a test"),
    Deed.MISSED_RUN_STARTED: lambda stage: resolve(stage, "run"),
    Deed.MISSED_RUN_BACKFILLED: lambda stage: resolve(stage, "backfill"),
    Deed.MISSED_RUN_SKIPPED: lambda stage: resolve(stage, "skip"),
    Deed.SCHEDULE_ADDED: lambda stage: PeriodicTask.objects.create(name="mine", task="x", crontab=CrontabSchedule.objects.first()),
    Deed.SCHEDULE_PAUSED: lambda stage: change_schedule(stage, enabled=None),
    Deed.SCHEDULE_RESUMED: pause_and_resume,
    Deed.SCHEDULE_CHANGED: give_other_crontab,
    Deed.SCHEDULE_DELETED: lambda stage: PeriodicTask.objects.get(name=next(iter(MODES))).delete(),
    Deed.CRONTAB_ADDED: lambda stage: stage.submit("django_celery_beat_crontabschedule_add", **WHEN),
    Deed.CRONTAB_CHANGED: change_crontab,
    Deed.CRONTAB_DELETED: lambda stage: CrontabSchedule.objects.create(**WHEN).delete(),
    Deed.DATA_EXPORTED: lambda stage: export(stage, "csv"),
    Deed.REPORT_WRITTEN: write_report,
    Deed.REQUESTS_REFUSED: exceed_rate,
    Deed.PERSONAL_DATA_VIEWED: view_customer,
    Deed.ERASURE_REQUESTED: ask_to_forget,
    Deed.CUSTOMER_FORGOTTEN: lambda stage: [ask_to_forget(stage), erase_pending()],
    Deed.SETTINGS_SEEN: lambda stage: record_settings("web"),
    Deed.DEMO_GENERATED: lambda stage: call_command("generate_data", "--orders", "20", "--quiet"),
    Deed.SOURCES_COMPARED: compare,
    Deed.AUDIT_VERIFIED: lambda stage: call_command("audit", "--verify"),
}
