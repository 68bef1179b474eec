"""What can go wrong, in one tree. The class decides whether a retry may help and whose fault it was; the message is for the operator.

A message names the thing, the cause and the next step, in one line, without a secret. Default: the class's docstring.
"""

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

Blame = Literal["data", "machine", "configuration"]


class EtlError(Exception):
    """The run failed."""

    blame: ClassVar[Blame] = "machine"
    transient: ClassVar[bool] = False

    def __init__(self, message: str = ""):
        super().__init__(" ".join((message or type(self).__doc__ or "").split()))


class Transient(EtlError):
    """A server was away for a moment; run it again."""

    transient = True


class ConnectionLost(Transient):
    """A database closed the connection in the middle of the work; nothing was published. Run it again."""


class LockTimeout(Transient):
    """Another session holds a lock on the warehouse; nothing was published. Run it again when it has ended."""


class Terminal(EtlError):
    """It would fail again the same way."""


class Usage(Terminal):
    """It was asked for in a way that makes no sense."""

    blame = "configuration"


class Misconfigured(Terminal):
    """A setting or a server is not ready for a run."""

    blame = "configuration"


class Unreachable(Misconfigured):
    """A server does not answer."""


class AccessDenied(Misconfigured):
    """A server refuses the user."""


class NotMigrated(Misconfigured):
    """A table is missing. Run `manage.py migrate_all`."""


class SchemaDrift(Misconfigured):
    """A source's columns are not those that the declarations in apps/etl/tables.py name."""


class ReadOnly(Misconfigured):
    """The warehouse does not take writes."""


class NoSpace(Terminal):
    """A disk is full; nothing was published. Free space, then run it again."""


class BadData(Terminal):
    """The sources hold something that cannot be published."""

    blame = "data"


class BatchDamaged(Terminal):
    """A landed batch is not what was written. Start a new run."""


class BackupDamaged(Terminal):
    """A backup is not what was written. Take another one."""


class ChecksRefused(BadData):
    """The checks refused to publish. `results` holds what each of them said."""

    results: Sequence[Any] = ()


class Unbalanced(ChecksRefused):
    """Rows went missing on the way: read is not loaded + filtered + rejected. Nothing was published."""


class TimedOut(Terminal):
    """The run took longer than its limit; nothing was published."""


class Cancelled(EtlError):
    """Cancelled; nothing was published."""


class ClaimLost(EtlError):
    """Another worker has this task now; nothing was published from here."""
