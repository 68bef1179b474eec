"""User and group pages. They are Django's own, without the ways in which an administrator could give themselves more rights."""

from typing import Any

from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin as DjangoGroupAdmin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group, User
from django.db.models import Model
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

from apps.console.groups import GROUPS
from apps.console.unreadable import CheckingAdmin

admin.site.unregister([User, Group])


@admin.register(User)
class UserAdmin(DjangoUserAdmin, CheckingAdmin):  # type: ignore[type-arg]
    """Users get permissions through groups alone; only a superuser may edit a superuser."""

    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm
    list_display = ("username", "first_name", "last_name", "email", "is_active", "group_names", "last_login")
    list_filter = ("groups", "is_active", "is_superuser")
    fieldsets = (
        (None, {"fields": ("username", "password")}),
        (_("Personal details"), {"fields": ("first_name", "last_name", "email")}),
        (_("Access"), {"fields": ("is_active", "is_staff", "groups")}),
        (_("Activity"), {"fields": ("last_login", "date_joined")}),
    )
    add_fieldsets = ((None, {"classes": ("wide",), "fields": ("username", "usable_password", "password1", "password2")}),)
    readonly_fields = ("last_login", "date_joined")

    @admin.display(description=_("groups"))
    def group_names(self, user: User) -> str:
        return ", ".join(group.name for group in user.groups.all())

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).prefetch_related("groups")

    def save_model(self, request: HttpRequest, user: User, form: Any, change: bool) -> None:
        """Save the user; a new one may log in to the admin."""
        user.is_staff = user.is_staff or not change
        super().save_model(request, user, form, change)

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return may_edit_user(request, obj) and bool(super().has_change_permission(request, obj))

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return may_edit_user(request, obj) and bool(super().has_delete_permission(request, obj))


def may_edit_user(request: HttpRequest, user: Model | None) -> bool:
    return bool(request.user.is_superuser) or not getattr(user, "is_superuser", False)


@admin.register(Group)
class GroupAdmin(DjangoGroupAdmin, CheckingAdmin):
    """The release's three groups cannot be edited; another group gives at most the permissions of the user who makes it."""

    def has_change_permission(self, request: HttpRequest, obj: Group | None = None) -> bool:
        return getattr(obj, "name", "") not in GROUPS and bool(super().has_change_permission(request, obj))

    def has_delete_permission(self, request: HttpRequest, obj: Group | None = None) -> bool:
        return getattr(obj, "name", "") not in GROUPS and bool(super().has_delete_permission(request, obj))

    def formfield_for_manytomany(self, db_field: Any, request: Any = None, **options: Any) -> Any:
        field = super().formfield_for_manytomany(db_field, request, **options)
        if field is not None and field.queryset is not None and not request.user.is_superuser:
            held = {permission.pk for permission in field.queryset if request.user.has_perm(full_name(permission))}
            field.queryset = field.queryset.filter(pk__in=held)
        return field


def full_name(permission: Any) -> str:
    return f"{permission.content_type.app_label}.{permission.codename}"
