"""Everything that can go wrong, in one tree. The class decides whether a retry may help and what kind of cause it was.

The message is for the operator: the thing, the cause and the next step, in one line, without a secret. Default: the class's docstring.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from techmarket.messages import Message, message

CauseKind = Literal["data", "machine", "configuration", "bug", ""]


class EtlError(Exception):
    """The run failed."""

    cause_kind: ClassVar[CauseKind] = "machine"
    transient: ClassVar[bool] = False
    code: ClassVar[str] = ""  # of the default message, for errors that the ledger keeps

    def __init__(self, text: str = ""):
        if not text:
            text = message(self.code) if self.code else type(self).__doc__ or ""
        self.message = text if isinstance(text, Message) else " ".join(text.split())
        super().__init__(" ".join(text.split()))


class Transient(EtlError):
    """A server was away for a moment; run it again."""

    transient = True


class ConnectionLost(Transient):
    """A database closed the connection in the middle of the work; nothing was published. Run it again."""


class LockTimeout(Transient):
    """Another session holds a lock on the warehouse; nothing was published. Run it again when it has ended."""


class StartOver(Transient):
    """What earlier tasks did has to be done again. `tasks`: those that start over."""

    tasks: Sequence[Any] = ()


class RowsMoved(StartOver):
    """Rows moved from one slice to another while these were read: the slices are read again."""


class PreparedLost(StartOver):
    """Tables that were prepared are gone."""


class Terminal(EtlError):
    """It would fail again the same way."""


class Usage(Terminal):
    """The request makes no sense."""

    cause_kind = "configuration"


class Misconfigured(Terminal):
    """A setting or a server is not ready for a run."""

    cause_kind = "configuration"


class Unreachable(Misconfigured):
    """A server does not answer."""


class AccessDenied(Misconfigured):
    """A server refuses the user."""


class NotMigrated(Misconfigured):
    """A table is missing. Run `manage.py migrate_all`."""


class Incomplete(NotMigrated):
    """A table or column that migrations had created is gone. Restore it, or a backup."""


class SchemaDrift(Misconfigured):
    """A source's columns are not those that the declarations in apps/etl/tables.py name."""


class SessionLimit(Misconfigured):
    """A limit of the server for statements or sessions ended the work; nothing was published. Raise it, then run it again."""

    transient = True  # it may have been a slow moment


class ReadOnly(Misconfigured):
    """The warehouse does not take writes."""


class ReplicaLags(Misconfigured):
    """A replica is further behind its source than the setting allows."""

    transient = True  # it may catch up until the next attempt


class MarkAhead(Misconfigured):
    """The high-water mark is ahead of the sources' clock: a window that starts there would miss changes."""


class StalePlan(Terminal):
    """Another load was published since this run was planned."""


class PublishedMeanwhile(Transient):
    """A run was published while the sources and the star were compared. Compare them again."""


class NoSpace(Terminal):
    """A disk is full; nothing was published. Free space, then run it again."""


class BadData(Terminal):
    """The sources hold something that cannot be published."""

    cause_kind = "data"


class BatchDamaged(Terminal):
    """A landed batch does not match its checksum. Start a new run."""

    code = "batch.damaged"


class BatchesLost(Terminal):
    """The batches of a run are gone: a backup without them was restored. Start a new run."""

    code = "batch.lost"


class BackupDamaged(Terminal):
    """A backup is not what was written. Take another one."""


class ChecksRefused(BadData):
    """Blocking checks failed. `results` holds the result of every check, `revenues` what the facts would have gained and lost."""

    results: Sequence[Any] = ()
    revenues: Mapping[str, Any] = {}


class BrakesApplied(ChecksRefused):
    """The run would take more out of the warehouse than the limits allow. A person may accept that and publish it."""


class Unbalanced(ChecksRefused):
    """Rows went missing on the way: read is not loaded + filtered + rejected. Nothing was published."""


class Unexpected(Terminal):
    """An error that no code of ours expects."""

    cause_kind = "bug"


class TimedOut(Terminal):
    """The run took longer than its limit; nothing was published."""


class Cancelled(EtlError):
    """Cancelled; nothing was published."""

    cause_kind = ""  # a person's decision, no failure


class ClaimLost(EtlError):
    """Another worker has claimed this task; nothing was published from here."""

    code = "task.claim_lost"
