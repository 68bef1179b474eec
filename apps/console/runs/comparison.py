"""What is otherwise than in the last run of the kind that succeeded."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

from django.utils.translation import gettext as _

from apps.orchestration.models import Run, State
from apps.orchestration.tally import Tally, tallies
from apps.orchestration.window import describe_window
from techmarket.amounts import lasting, signed, whole


@dataclass(frozen=True)
class Difference:
    """`change` is empty where the two are the same, or are no numbers."""

    name: str
    before: str
    now: str
    change: str = ""

    @property
    def differs(self) -> bool:
        return self.before != self.now


@dataclass(frozen=True)
class Comparison:
    good: Run
    lines: list[Difference]


def last_good(run: Run) -> Run | None:
    """An incremental run is no measure for a full one."""
    return Run.objects.filter(pk__lt=run.pk, state=State.SUCCEEDED, dry_run=False, mode=run.mode).first()


def comparison(run: Run, tally: Tally) -> Comparison | None:
    good = last_good(run)
    return Comparison(good, list(differences(good, tallies([good])[good.pk], run, tally))) if good else None


def differences(good: Run, before: Tally, run: Run, now: Tally) -> Iterator[Difference]:
    if before.counted and now.counted:
        yield counted(_("Rows read"), before.read, now.read)
        yield counted(_("Rows written"), before.written, now.written)
        yield counted(_("Rows rejected"), before.rejected, now.rejected)
    if before.checks and now.checks:
        yield counted(_("Checks failed"), before.blocking + before.warnings, now.blocking + now.warnings)
    if good.seconds is not None and run.seconds is not None:
        yield Difference(_("Duration"), seconds(good.seconds), seconds(run.seconds), longer(run.seconds - good.seconds))
    yield Difference(_("Code version"), good.code_version or "–", run.code_version or "–")
    yield Difference(_("Window"), *(describe_window(each.mode, each.window_start, each.window_end) for each in (good, run)))
    yield Difference(_("Asked by"), *(f"{each.requested_by} ({each.get_trigger_display()})" for each in (good, run)))


def counted(name: str, before: int, now: int) -> Difference:
    return Difference(name, whole(before), whole(now), signed(now - before) if now != before else "")


def seconds(lasted: float) -> str:
    return lasting(timedelta(seconds=lasted))


def longer(more: float) -> str:
    return f"{'+' if more > 0 else '−'}{seconds(abs(more))}" if abs(more) >= 0.1 else ""
