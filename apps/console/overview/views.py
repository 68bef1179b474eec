from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET

from apps.console.overview import page


@never_cache
@require_GET
def now(request: HttpRequest) -> HttpResponse:
    """Return the part of the overview that refreshes itself. Once a run has published, or the session has ended, reload the page."""
    if not (request.user.is_active and request.user.is_staff and request.user.has_perm("orchestration.view_run")):
        return HttpResponse(status=403, headers={"HX-Refresh": "true"})
    context = page.describe_now()
    changed = "seen" in request.GET and request.GET["seen"] != context["edition"]
    response = render(request, "console/overview/now.html", context)
    if changed:
        response["HX-Refresh"] = "true"
    return response
