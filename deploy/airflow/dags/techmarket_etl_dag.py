"""TechMarket's two schedules for Airflow 3. docs/AIRFLOW.md says how to use them.

Airflow has an environment of its own, so that TechMarket is asked through its command line: TECHMARKET_MANAGE is what `manage.py` is where
the tasks run, as one would type it. NOTIFY_URL is told (POST, JSON) when a run fails and when the next one succeeds.
"""

import json
import os
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.request import Request, urlopen

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG, CronTriggerTimetable, TriggerRule, get_current_context, task
from airflow.sdk.exceptions import AirflowFailException

MANAGE = os.environ.get("TECHMARKET_MANAGE", "/srv/techmarket/.venv/bin/python /srv/techmarket/manage.py")
NOTIFY_URL = os.environ.get("NOTIFY_URL", "")
SKIPPED = 3  # run_etl's exit code when another run is active: a normal outcome, that nobody is woken for
CHECK_LIMIT = timedelta(minutes=5)


def etl(name: str, cron: str, mode: str, limit: timedelta) -> DAG:
    """check_sources >> check_warehouse >> run >> notify."""
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
        sources = command("check_sources", "wait --sources --seconds 10", CHECK_LIMIT)
        warehouse = command("check_warehouse", "wait --seconds 10", CHECK_LIMIT)
        run = command("run", f"run_etl --mode {mode}", limit)
        sources >> warehouse >> run >> notify()
    return dag


def command(name: str, words: str, limit: timedelta) -> BashOperator:
    """`manage.py` with these words. At the limit it gets SIGTERM, on which a run tidies up and says so in the ledger."""
    return BashOperator(task_id=name, bash_command=f"exec {MANAGE} {words}", skip_on_exit_code=SKIPPED, execution_timeout=limit)


@task(trigger_rule=TriggerRule.ALL_DONE, retries=0)
def notify() -> None:
    """The last task decides what the whole is: where one before it has failed, it fails too, once it has told."""
    context: Any = get_current_context()
    instance, dag_run = context["ti"], context["dag_run"]
    states = instance.get_task_states(dag_id=dag_run.dag_id, run_ids=[dag_run.run_id])[dag_run.run_id]
    failed = [name for name in ("check_sources", "check_warehouse", "run") if states[name] == "failed"]
    before = instance.get_previous_dagrun()
    if failed:
        tell("failed", dag_run, f"{failed[0]} has failed")
        raise AirflowFailException(f"{failed[0]} has failed; its log says why.")
    if states["run"] == "success" and before and before.state == "failed":
        tell("recovered", dag_run, "the run has succeeded again")


def tell(event: str, dag_run: Any, what: str) -> None:
    words = {"event": event, "text": f"{dag_run.dag_id} {event}: {what}", "schedule": dag_run.dag_id, "run": dag_run.run_id}
    print(words["text"])
    if not NOTIFY_URL:
        return
    try:
        request = Request(NOTIFY_URL, json.dumps(words).encode(), {"Content-Type": "application/json"})  # noqa: S310  the operator's own
        urlopen(request, timeout=5).close()  # noqa: S310
    except (OSError, ValueError) as error:
        print(f"NOTIFY_URL does not take the notice: {type(error).__name__}")


daily = etl("techmarket_etl_daily", "0 2 * * *", "incremental", timedelta(hours=2))
weekly = etl("techmarket_etl_weekly_full", "0 3 * * 0", "full", timedelta(hours=4))
