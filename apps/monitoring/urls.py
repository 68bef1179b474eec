from django.urls import path

from apps.monitoring.metrics import metrics
from apps.monitoring.readyz import healthz, readyz

urlpatterns = [
    path("healthz", healthz),
    path("readyz", readyz),
    path("metrics", metrics),
]
