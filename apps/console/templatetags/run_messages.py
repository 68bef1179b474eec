"""Messages about runs, with the state that the run has when the page is shown. Unfold imports it before its own admin is complete."""

from collections.abc import Iterable
from typing import Any

from django import template
from django.contrib import messages
from django.contrib.messages.storage.base import Message
from django.urls import reverse
from django.utils.html import format_html

from apps.orchestration.models import Run, State

register = template.Library()
MESSAGE_TAG = "run"  # of a message that is about a run in a state
LEVELS = {
    State.SUCCEEDED: messages.SUCCESS,
    State.FAILED: messages.ERROR,
    State.LOST: messages.ERROR,
    State.CANCELLED: messages.WARNING,
    State.SKIPPED: messages.WARNING,
}


@register.filter
def with_present_states(shown: Iterable[Message]) -> list[tuple[Message, int | None]]:
    """Return each message, with its run if it has one; where the run has left the state that the text is about, it says the present one."""
    found = [(message, *parse_tag(message.extra_tags or "")) for message in shown]
    runs = Run.objects.in_bulk([number for _message, number, _state in found if number]) if any(each[1] for each in found) else {}
    return [(renew(message, runs.get(number or 0), state), number) for message, number, state in found]


def parse_tag(tag: str) -> tuple[int | None, str]:
    """Return the run and its state, as show_result has noted them."""
    parts = tag.split("-")
    return (int(parts[1]), parts[2]) if len(parts) == 3 and parts[0] == MESSAGE_TAG else (None, "")


def renew(message: Message, run: Any, state: str) -> Message:
    if run is None or run.state == state:
        return message
    href = reverse("admin:orchestration_run_change", args=[run.pk])
    text = format_html('<a class="tm-link" href="{}">{}</a>: {}.', href, run, run.get_state_display())
    return Message(LEVELS.get(State(run.state), messages.INFO), text, message.extra_tags)
