from django.urls import path

from apps.console.overview import views

app_name = "console"
urlpatterns = [path("", views.now, name="now")]
