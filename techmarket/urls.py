from django.urls import include, path

urlpatterns = [path("", include("apps.monitoring.urls")), path("", include("apps.console.urls"))]
