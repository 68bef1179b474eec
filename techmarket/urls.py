"""The URLs of every app. With settings.py this is the composition root."""

from django.urls import include, path

urlpatterns = [path("", include("apps.monitoring.urls")), path("", include("apps.console.urls"))]
