"""Compares a run with the last successful run of its mode."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

from django.utils.translation import gettext as _

from apps.orchestration.models import Run, State
from apps.orchestration.tally import Tally, tallies
from apps.orchestration.window import describe_window
from techmarket.formats import localize_change, localize_count, localize_duration


@dataclass(frozen=True)
class Difference:
    """One line of the comparison. `change` is empty where the values are equal or not numbers."""

    name: str
    before: str
    now: str
    change: str = ""

    @property
    def differs(self) -> bool:
        return self.before != self.now


@dataclass(frozen=True)
class Comparison:
    baseline: Run
    lines: list[Difference]


def find_baseline(run: Run) -> Run | None:
    """Return the last successful run of the same mode before this one: an incremental run says nothing about a full one."""
    return Run.objects.filter(pk__lt=run.pk, state=State.SUCCEEDED, dry_run=False, mode=run.mode).first()


def compare_with_baseline(run: Run, tally: Tally) -> Comparison | None:
    """Return the differences from the last successful run of the mode, or None where there is none."""
    baseline = find_baseline(run)
    return Comparison(baseline, list(compare(baseline, tallies([baseline])[baseline.pk], run, tally))) if baseline else None


def compare(baseline: Run, before: Tally, run: Run, now: Tally) -> Iterator[Difference]:
    if before.counted and now.counted:
        yield compare_counts(_("Rows read"), before.read, now.read)
        yield compare_counts(_("Rows written"), before.written, now.written)
        yield compare_counts(_("Rows rejected"), before.rejected, now.rejected)
    if before.checks and now.checks:
        yield compare_counts(_("Checks not passed"), before.blocking + before.warnings, now.blocking + now.warnings)
    if baseline.seconds is not None and run.seconds is not None:
        change = format_change(run.seconds - baseline.seconds)
        yield Difference(_("Duration"), format_seconds(baseline.seconds), format_seconds(run.seconds), change)
    yield Difference(_("Code version"), baseline.code_version or "–", run.code_version or "–")
    yield Difference(_("Window"), *(describe_window(each.mode, each.window_start, each.window_end) for each in (baseline, run)))
    yield Difference(_("Requested by"), *(f"{each.requested_by} ({each.get_trigger_display()})" for each in (baseline, run)))


def compare_counts(name: str, before: int, now: int) -> Difference:
    return Difference(name, localize_count(before), localize_count(now), localize_change(now - before) if now != before else "")


def format_seconds(seconds: float) -> str:
    return localize_duration(timedelta(seconds=seconds))


def format_change(seconds: float) -> str:
    return f"{'+' if seconds > 0 else '−'}{format_seconds(abs(seconds))}" if abs(seconds) >= 0.1 else ""
