from django.contrib import admin
from django.urls import include, path
from django.views.generic import RedirectView

from apps.console.login import LoginView
from apps.console.second_factor.views import CodePage

admin.autodiscover()  # settings.py uses SimpleAdminConfig, which does not

urlpatterns = [
    path("", RedirectView.as_view(pattern_name="admin:index")),
    path("language/", include("django.conf.urls.i18n")),
    path("admin/now/", include("apps.console.overview.urls")),
    path("admin/login/", LoginView.as_view(), name="account_login"),
    path("admin/login/oidc/", include("apps.console.oidc.urls")),
    path("admin/login/code/", CodePage.as_view(), name="mfa_authenticate"),
    path("admin/security/", include("apps.console.second_factor.urls")),
    path("admin/", admin.site.urls),
]
