"""Whether a run was published. The warehouse decides, by its row in etl_load; the ledger follows it.

A process may die between the warehouse's commit and the ledger's, and the answer to a commit may be lost with its connection.
"""

from apps.etl.session import end_session
from apps.orchestration.models import UNSUCCESSFUL, Run, Stage, State, Task, to_etl_error
from apps.warehouse.loads import Load
from techmarket.diagnosis import close, diagnosed
from techmarket.errors import EtlError
from techmarket.messages import Message, message

UNKNOWN = "run.publication_unknown"
# The same causes, without their promise that nothing was published.
WITHOUT_PROMISE = {
    "run.cancelled_by": "ended.cancelled_by",
    "run.cancelled_because": "ended.cancelled_because",
    "run.interrupted": "ended.interrupted",
    "run.timed_out": "ended.timed_out",
    "run.unexpected": "ended.unexpected",
    "task.heartbeat_stopped": "ended.heartbeat_stopped",
    "task.process_gone": "ended.process_gone",
}


def find_load(run: Run) -> Load | None:
    """Return the row by which the warehouse says that it has what the run published. Raises EtlError where it does not answer.

    The load's session is ended first: a commit still under way would be done after the answer.
    """
    task = find_load_task(run)
    close("dwh")
    with diagnosed("dwh"):
        end_session(task.session if task else None)
        return Load.objects.filter(run_uuid=run.uuid).first()


def find_load_task(run: Run) -> Task | None:
    return run.tasks.filter(stage=Stage.LOAD).first()


def is_in_doubt(run: Run) -> bool:
    """Return True if the run's load has begun to commit, so that only the warehouse knows whether it has."""
    task = find_load_task(run)
    return task is not None and bool((task.session or {}).get("committing"))


def doubt(error: BaseException) -> EtlError:
    """Return the same error with a cause that promises nothing: the warehouse does not answer."""
    known = to_etl_error(error)
    return known if is_unknown(known.message) else type(known)(describe_doubt(known.message))


def describe_doubt(cause: str) -> Message:
    """Return the cause of a run of which nobody knows whether it was published. It stores `cause`, for when that is settled."""
    return Message(UNKNOWN, {"cause": without_promise(cause), "settled": cause})


def without_promise(cause: str) -> str:
    if not isinstance(cause, Message):
        return cause
    if "published" in cause.params:
        return Message(cause.code, {**cause.params, "published": ""})
    return message(WITHOUT_PROMISE[cause.code], **cause.params) if cause.code in WITHOUT_PROMISE else cause


def is_unknown(cause: object) -> bool:
    return isinstance(cause, Message) and cause.code == UNKNOWN


def settle_cause(run: Run) -> None:
    """Record that an ended run was not published after all: its cause may promise that from now on."""
    for row in (run, *run.tasks.filter(state__in=UNSUCCESSFUL)):
        if isinstance(row.cause, Message) and row.cause.code == UNKNOWN:
            row.transition(*UNSUCCESSFUL, to=State(row.state), cause=row.cause.params["settled"])
