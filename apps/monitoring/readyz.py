"""/readyz: whether this web process can serve. It asks the probes declared with Use.READYZ. /healthz asks nothing."""

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from apps.monitoring.probes import Use, ask_quickly, probes_for


@require_safe
def healthz(request: HttpRequest) -> HttpResponse:
    """Answer while the process runs. A database that is down is no reason to restart it."""
    return HttpResponse("alive\n", content_type="text/plain")


@never_cache
@require_safe
def readyz(request: HttpRequest) -> JsonResponse:
    """Return 200 or 503, and the state of each part; of `?only=control&only=dwh`, the state of those two alone.

    The answer is public and names only the kind of trouble; the log has the address and the user.
    """
    parts = {probe.name: probe for probe in probes_for(Use.READYZ)}
    names = request.GET.getlist("only") or list(parts)
    if unknown := sorted(set(names) - set(parts)):
        return JsonResponse({"error": f"no part {unknown[0][:40]!r}; there are {', '.join(parts)}"}, status=400)
    answers = ask_quickly([parts[name] for name in dict.fromkeys(names)])
    ready = not any(answer.trouble for answer in answers)
    states = {answer.name: {"ok": not answer.trouble, "cause": answer.kind} for answer in answers}
    return JsonResponse({"ready": ready, "parts": states}, status=200 if ready else 503)
