"""Whether this process lives, and whether it can be of use: what probes ask every few seconds, without a password."""

import time
from collections.abc import Callable, Iterable
from threading import Thread

import structlog
from django.conf import settings
from django.db import connections
from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.urls import resolve
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe
from kombu.exceptions import OperationalError
from redis import RedisError

from techmarket.celery import app
from techmarket.diagnosis import MIGRATE, diagnosed, place
from techmarket.errors import EtlError, NotMigrated, Unreachable
from techmarket.migrations import missing, pending

log = structlog.get_logger()
PATIENCE = 3.0  # seconds for all parts together; Kubernetes and Compose give a probe five
SILENT = "It has not answered in time."


class Probes:
    """Answers probes and Prometheus before any other middleware.

    They ask by plain HTTP and by an address such as 10.1.2.3:8000. The redirect to HTTPS and ALLOWED_HOSTS guard people's sessions and
    the links that a page makes of its own name; here is neither, and nothing of the answer depends on the Host header.
    """

    paths = frozenset({"/healthz", "/readyz", "/metrics"})

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]):
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if request.path_info not in self.paths:
            return self.get_response(request)
        view, args, kwargs = resolve(request.path_info)
        answer: HttpResponseBase = view(request, *args, **kwargs)
        return answer


@require_safe
def healthz(request: HttpRequest) -> HttpResponse:
    """The process lives: whether a database does is not its fault, and a restart would not help."""
    return HttpResponse("alive\n", content_type="text/plain")


@never_cache
@require_safe
def readyz(request: HttpRequest) -> JsonResponse:
    """200 or 503, and the state of each part; of those alone that `?only=control&only=dwh` names.

    Anybody may ask: the answer says what kind of trouble it is. Where, and as which user, is in the log.
    """
    names = request.GET.getlist("only") or list(PARTS)
    if unknown := set(names) - set(PARTS):
        return JsonResponse({"error": f"no part {sorted(unknown)[0][:40]!r}; there are {', '.join(PARTS)}"}, status=400)
    troubles = look(names)
    ready = not any(troubles.values())
    parts = {name: {"ok": not trouble, "cause": trouble} for name, trouble in troubles.items()}
    return JsonResponse({"ready": ready, "parts": parts}, status=200 if ready else 503)


def look(names: Iterable[str]) -> dict[str, str]:
    """What kind of trouble each part is in; empty where it answers. All are asked at once, for PATIENCE and no longer."""
    troubles = dict.fromkeys(names, SILENT)
    until = time.monotonic() + PATIENCE
    # Not a pool, whose threads would hold up the process's end; each of these ends with its driver's own limit for a connection.
    threads = [Thread(target=ask, args=(name, troubles), daemon=True) for name in troubles]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))
    return dict(troubles)


def ask(name: str, troubles: dict[str, str]) -> None:
    try:
        PARTS[name]()
        troubles[name] = ""
    except EtlError as error:
        log.warning("a part is not ready", part=name, cause=str(error))
        troubles[name] = str(type(error).__doc__)
    finally:
        connections.close_all()  # this thread's own


def database(alias: str) -> None:
    """It answers, and has every table that this version of the code knows."""
    with diagnosed(alias):
        if count := pending(alias):
            raise NotMigrated(f"{place(alias)} {missing(count)}. {MIGRATE}")


def broker() -> None:
    try:
        with app.connection_for_write(settings.CELERY_BROKER_URL) as connection:
            connection.ensure_connection(max_retries=1, timeout=PATIENCE)
    except (OperationalError, RedisError, OSError) as error:
        raise Unreachable(f"The broker does not answer ({error}). Start it, or correct CELERY_BROKER_URL.") from error


PARTS: dict[str, Callable[[], None]] = {
    "control": lambda: database("default"),
    "dwh": lambda: database("dwh"),
    "broker": broker,
}
