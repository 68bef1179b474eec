from collections.abc import Callable

from django.http import HttpRequest, HttpResponseBase
from django.urls import resolve

POLICY = {"Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'", "X-Content-Type-Options": "nosniff"}


class MonitoringMiddleware:
    """Answers /healthz, /readyz and /metrics before any other middleware.

    A kubelet and Prometheus ask by plain HTTP and by an address such as 10.1.2.3:8000, which the redirect to HTTPS and ALLOWED_HOSTS
    would refuse. Those two protect sessions and the links that a page builds from the Host header; these answers have neither.
    """

    paths = frozenset({"/healthz", "/readyz", "/metrics"})

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]):
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if request.path_info not in self.paths:
            return self.get_response(request)
        view, args, kwargs = resolve(request.path_info)
        response: HttpResponseBase = view(request, *args, **kwargs)
        for name, value in POLICY.items():
            response[name] = value
        return response
