"""Writes how Airflow parses a folder of DAGs, as JSON. Run by Airflow's own Python."""

import json
import sys
from pathlib import Path
from typing import Any

from airflow.dag_processing.dagbag import DagBag


def describe_dag(dag: Any) -> dict[str, Any]:
    return {
        "schedule": dag.timetable.expression if hasattr(dag.timetable, "expression") else str(dag.schedule),
        "catchup": dag.catchup,
        "max_active_runs": dag.max_active_runs,
        "tasks": {task.task_id: sorted(task.upstream_task_ids) for task in dag.tasks},
        "retries": {task.task_id: [task.retries, task.retry_delay.total_seconds()] for task in dag.tasks},
        "limit": dag.get_task("run").execution_timeout.total_seconds(),
    }


bag = DagBag(sys.argv[1])
Path(sys.argv[2]).write_text(json.dumps({"errors": bag.import_errors, "dags": {name: describe_dag(dag) for name, dag in bag.dags.items()}}))
