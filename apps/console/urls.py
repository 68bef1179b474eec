from django.contrib import admin
from django.urls import include, path
from django.views.generic import RedirectView

admin.autodiscover()  # settings.py uses SimpleAdminConfig, which does not

urlpatterns = [
    path("", RedirectView.as_view(pattern_name="admin:index")),
    path("language/", include("django.conf.urls.i18n")),
    path("admin/now/", include("apps.console.overview.urls")),
    path("admin/", admin.site.urls),
]
