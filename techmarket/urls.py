from django.contrib import admin
from django.urls import include, path
from django.views.generic import RedirectView

from techmarket import health

admin.autodiscover()  # settings.py leaves that to here

urlpatterns = [
    path("healthz", health.healthz),
    path("readyz", health.readyz),
    path("metrics", include("apps.dashboard.metrics")),
    path("", RedirectView.as_view(pattern_name="admin:index")),
    path("language/", include("django.conf.urls.i18n")),
    path("admin/now/", include("apps.dashboard.urls")),
    path("admin/", admin.site.urls),
]
