from django.urls import path

from apps.console.oidc import views

urlpatterns = [
    path("", views.log_in, name="oidc_login"),
    path("callback/", views.finish, name="oidc_callback"),
]
