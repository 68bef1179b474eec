from django.urls import path

from apps.monitoring import metrics, readiness

urlpatterns = [
    path("healthz", readiness.healthz),
    path("readyz", readiness.readyz),
    path("metrics", metrics.metrics),
]
