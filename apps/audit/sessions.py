"""When a session ends: with its time, where nobody uses it, and where its user has been given other rights since the login."""

import time
from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.models import AnonymousUser
from django.db import DataError, transaction
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.translation import gettext as _

from apps.audit.chain import record
from apps.audit.models import Deed, Entry

# Of the session: when it began, when it was last used, by this machine's clock; and the entry of its login.
BEGAN, USED, ENTRY = "began", "used", "entry"
SAVED_EVERY_S = 60  # a session that is used is saved once in this time, not at every request
# A changed password ends all other sessions by Django's hash of it.
RIGHTS = (
    Deed.GROUPS_CHANGED,
    Deed.PERMISSIONS_CHANGED,
    Deed.STAFF_CHANGED,
    Deed.SUPERUSER_GRANTED,
    Deed.SUPERUSER_REVOKED,
)


def start_session(session: Any, login: Entry) -> None:
    session[BEGAN] = session[USED] = time.time()
    session[ENTRY] = login.number


class SessionLimitsMiddleware:
    """Ends the session of a request where its time is over, and lets the request go on without a user."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]):
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if is_signed_in(request):
            if reason := find_end(request):
                end_session(request, reason)
                messages.info(request, _("Your session has ended. Log in again."))
            else:
                note_use(request)
        return self.get_response(request)


def is_signed_in(request: HttpRequest) -> bool:
    """Return whether the request has a user. A key that the database cannot hold, such as one with a NUL, names no session."""
    try:
        return request.user.is_authenticated
    except (ValueError, DataError):
        request.session, request.user = type(request.session)(), AnonymousUser()
        return False


def end_session(request: HttpRequest, reason: str) -> None:
    with transaction.atomic():
        record(Deed.SESSION_ENDED, request.user, reason=reason)  # type: ignore[arg-type]
        request.session.flush()
    request.user = AnonymousUser()


def find_end(request: HttpRequest) -> str:
    """Return why the session ends now, or ""."""
    session, now = request.session, time.time()
    if now - session.get(BEGAN, now) > settings.SESSION_COOKIE_AGE:
        return "its time is over"
    if now - session.get(USED, now) > settings.SESSION_IDLE_SECONDS:
        return "nobody used it"
    return "its user's rights have changed" if have_rights_changed(request.user.pk, session.get(ENTRY, 0)) else ""


def have_rights_changed(user: int | None, login: int) -> bool:
    """Return True if the user has been given other rights since the login."""
    changes = Entry.objects.filter(object_type="auth.user", object_id=str(user), number__gt=login, deed__in=RIGHTS)
    return changes.exists()


def note_use(request: HttpRequest) -> None:
    """Remember that the session is used. A page that refreshes itself is no use: it may stand open overnight."""
    session, now = request.session, time.time()
    if request.headers.get("HX-Request") == "true":
        return
    if BEGAN not in session or now - session[USED] > SAVED_EVERY_S:
        session[BEGAN], session[USED] = session.get(BEGAN, now), now
