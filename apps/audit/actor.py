"""Who acts: the user of the request that is being answered, a schedule, or the operating system's user."""

import os
import pwd
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from django.http import HttpRequest

from apps.audit.models import ActorKind

acting: ContextVar["Actor | HttpRequest | None"] = ContextVar("acting", default=None)


@dataclass(frozen=True)
class Actor:
    name: str
    kind: ActorKind
    user_id: int | None = None
    address: str = ""
    request_id: str = ""
    reason: str = ""  # of all that they do now


@contextmanager
def acting_as(whom: Actor | HttpRequest) -> Iterator[None]:
    """Attribute what is recorded inside to an actor, or to the user that a request has by then."""
    token = acting.set(whom)
    try:
        yield
    finally:
        acting.reset(token)


def find_actor(user: Any = None) -> Actor:
    """Return who acts now. `user`: of a request whose user has changed meanwhile, by a login or a logout."""
    whom = acting.get()
    if isinstance(whom, Actor):
        return whom
    if whom is None:
        return Actor(os_user(), ActorKind.OPERATING_SYSTEM) if user is None else describe_user(user)
    return describe_user(user or getattr(whom, "user", None), getattr(whom, "client_address", ""), getattr(whom, "id", ""))


def describe_user(user: Any, address: str = "", request_id: str = "", reason: str = "") -> Actor:
    name = user if isinstance(user, str) else user.get_username() if user is not None else ""
    return Actor(name, ActorKind.USER, getattr(user, "pk", None), address, request_id, reason)


def os_user() -> str:
    """Return the operating system's user, whatever LOGNAME or USER say; where the system has no name for it, as in a container, its id."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name.encode("utf-8", "backslashreplace").decode()[:150]
    except KeyError:
        return f"uid {os.getuid()}"
