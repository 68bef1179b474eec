"""Up to which day the star is proven. Without numpy, for the web process; proof.py compares."""

from datetime import timedelta

from apps.orchestration.models import DayProof, Verdict


def verified_through() -> DayProof | None:
    """Return the proof of the last day up to which every day is equal; None where the first known day is not, or none is known."""
    last = None
    for proof in DayProof.objects.order_by("day").defer("orders", "order_ids", "source", "star").iterator():
        gap = last is not None and proof.day != last.day + timedelta(days=1)
        if proof.verdict != Verdict.EQUAL or gap:
            break
        last = proof
    return last
