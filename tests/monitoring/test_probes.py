"""The list of probes, and their runner behind /readyz, `ping` and the metric `up`."""

import threading

from django.conf import settings

from apps.monitoring.probes import NO_ANSWER, UNEXPECTED, Answer, Probe, Use, ask_probes, probes_for


def test_uses_of_the_probes() -> None:
    names = {use: [probe.name for probe in probes_for(use)] for use in Use}
    assert names[Use.READYZ] == names[Use.METRICS] == ["control", "dwh", "broker"]
    assert names[Use.PING] == ["control", "dwh", *settings.SOURCES, "broker", "workers", "beat", "reap", "schedules", "forget"]


def test_unexpected_error_is_reported_as_a_bug() -> None:
    def fail(answer: Answer, detailed: bool) -> None:
        raise ValueError("canary")

    (answer,) = ask_probes([Probe("broker", Use.PING, fail)], deadline_s=5, detailed=True)
    assert answer.trouble == "broker: unexpected ValueError: canary. This is a bug." and answer.kind == UNEXPECTED


def test_late_answer_is_not_used() -> None:
    late = threading.Event()

    def wait(answer: Answer, detailed: bool) -> None:
        late.wait()
        answer.version = "late"

    slow, quick = ask_probes([Probe("slow", Use.PING, wait), Probe("quick", Use.PING, lambda *_: None)], deadline_s=0.2, detailed=False)
    late.set()
    assert (slow.version, slow.kind) == ("", NO_ANSWER) and slow.trouble.startswith("slow gives no answer within 0 s.")
    assert quick == Answer("quick")
