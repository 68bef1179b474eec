"""Of allauth's pages only those that are needed, by the names that it gives them."""

from django.urls import path

from apps.console.second_factor import views

urlpatterns = [
    path("", views.SecurityPage.as_view(), name="mfa_index"),
    path("password/", views.PasswordAgain.as_view(), name="account_reauthenticate"),
    path("code/", views.CodeAgain.as_view(), name="mfa_reauthenticate"),
    path("passkey/", views.PasskeyAgain.as_view(), name="mfa_reauthenticate_webauthn"),
    path("app/add/", views.AddApp.as_view(), name="mfa_activate_totp"),
    path("app/remove/", views.RemoveApp.as_view(), name="mfa_deactivate_totp"),
    path("passkeys/add/", views.AddPasskey.as_view(), name="mfa_add_webauthn"),
    path("passkeys/<int:pk>/remove/", views.RemovePasskey.as_view(), name="mfa_remove_webauthn"),
    path("recovery-codes/", views.RecoveryCodes.as_view(), name="mfa_view_recovery_codes"),
    path("recovery-codes/new/", views.NewRecoveryCodes.as_view(), name="mfa_generate_recovery_codes"),
]
