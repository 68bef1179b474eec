"""TechMarket's two schedules for Airflow 3; docs/AIRFLOW.md describes their use.

Airflow has its own virtual environment, so the tasks run TechMarket's command line: TECHMARKET_MANAGE is the command for `manage.py` on the
machine of the tasks. A failed run and the next successful one are reported to NOTIFY_URL (POST, JSON).
"""

import ipaddress
import json
import os
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit
from urllib.request import ProxyHandler, Request, build_opener

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG, CronTriggerTimetable, TriggerRule, get_current_context, task
from airflow.sdk.exceptions import AirflowFailException

MANAGE = os.environ.get("TECHMARKET_MANAGE", "/srv/techmarket/.venv/bin/python /srv/techmarket/manage.py")
NOTIFY_URL = os.environ.get("NOTIFY_URL", "")
SKIPPED = 3  # run_etl's exit code when another run is active: not a failure
CHECK_LIMIT = timedelta(minutes=5)
LOCAL_SUFFIXES = (".localhost", ".local", ".internal", ".svc")


def make_dag(name: str, cron: str, mode: str, limit: timedelta) -> DAG:
    """Make a DAG: check_sources >> check_warehouse >> run >> notify."""
    with DAG(
        dag_id=name,
        description=f"TechMarket: {mode} run of the ETL",
        schedule=CronTriggerTimetable(cron, timezone="UTC"),
        start_date=datetime(2026, 1, 1, tzinfo=UTC),
        catchup=False,
        max_active_runs=1,
        default_args={"retries": 2, "retry_delay": timedelta(minutes=5)},
        tags=["techmarket"],
    ) as dag:
        check_sources = make_command("check_sources", "wait --sources --seconds 10", CHECK_LIMIT)
        check_warehouse = make_command("check_warehouse", "wait --seconds 10", CHECK_LIMIT)
        run = make_command("run", f"run_etl --mode {mode}", limit)
        check_sources >> check_warehouse >> run >> notify()
    return dag


def make_command(name: str, arguments: str, limit: timedelta) -> BashOperator:
    """Make a task that runs `manage.py`. At the limit it gets SIGTERM, and a run then ends as cancelled in the ledger."""
    return BashOperator(task_id=name, bash_command=f"exec {MANAGE} {arguments}", skip_on_exit_code=SKIPPED, execution_timeout=limit)


@task(trigger_rule=TriggerRule.ALL_DONE, retries=0)
def notify() -> None:
    """Send a notice of a failure or a recovery. Airflow takes the state of the last task for the DAG run, so it fails after a failure."""
    context: Any = get_current_context()
    instance, dag_run = context["ti"], context["dag_run"]
    states = instance.get_task_states(dag_id=dag_run.dag_id, run_ids=[dag_run.run_id])[dag_run.run_id]
    failed = [name for name in ("check_sources", "check_warehouse", "run") if states[name] == "failed"]
    before = instance.get_previous_dagrun()
    if failed:
        send_notice("failed", dag_run, f"{failed[0]} failed")
        raise AirflowFailException(f"{failed[0]} failed; see its log for the cause.")
    if states["run"] == "success" and before and before.state == "failed":
        send_notice("recovered", dag_run, "the run succeeded again")


def send_notice(event: str, dag_run: Any, message: str) -> None:
    """Print the notice and send it to NOTIFY_URL; a refusal there is only printed."""
    notice = {"event": event, "text": f"{dag_run.dag_id} {event}: {message}", "schedule": dag_run.dag_id, "run": dag_run.run_id}
    print(notice["text"])
    if not NOTIFY_URL:
        return
    try:
        request = Request(NOTIFY_URL, json.dumps(notice).encode(), {"Content-Type": "application/json"})  # noqa: S310  the operator sets the address
        handlers = [ProxyHandler({})] if is_local(urlsplit(NOTIFY_URL).hostname or "") else []
        build_opener(*handlers).open(request, timeout=5).close()
    except (OSError, ValueError) as error:
        print(f"The notice could not be sent to NOTIFY_URL: {type(error).__name__}")


def is_local(host: str) -> bool:
    """Return True for an address that the proxy of HTTP_PROXY cannot know: as techmarket/outbound.py, which Airflow cannot import."""
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return "." not in host or host.rstrip(".").endswith(LOCAL_SUFFIXES)


daily = make_dag("techmarket_etl_daily", "0 2 * * *", "incremental", timedelta(hours=2))
weekly = make_dag("techmarket_etl_weekly_full", "0 3 * * 0", "full", timedelta(hours=4))
