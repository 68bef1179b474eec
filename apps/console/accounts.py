"""The people who may come in. Django's own pages, with what an administrator must not be able to give themselves left out."""

from typing import Any

from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin as DjangoGroupAdmin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group, User
from django.db.models import Model
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _
from unfold.admin import ModelAdmin
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

from apps.console.groups import NAMES

admin.site.unregister([User, Group])


@admin.register(User)
class PersonAdmin(DjangoUserAdmin, ModelAdmin):  # type: ignore[type-arg]
    """A person has rights through groups alone; only a superuser touches a superuser."""

    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm
    list_display = ("username", "first_name", "last_name", "email", "is_active", "in_groups", "last_login")
    list_filter = ("groups", "is_active", "is_superuser")
    fieldsets = (
        (None, {"fields": ("username", "password")}),
        (_("Person"), {"fields": ("first_name", "last_name", "email")}),
        (_("Rights"), {"fields": ("is_active", "is_staff", "groups")}),
        (_("When"), {"fields": ("last_login", "date_joined")}),
    )
    add_fieldsets = ((None, {"classes": ("wide",), "fields": ("username", "usable_password", "password1", "password2")}),)
    readonly_fields = ("last_login", "date_joined")

    @admin.display(description=_("groups"))
    def in_groups(self, person: User) -> str:
        return ", ".join(group.name for group in person.groups.all())

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).prefetch_related("groups")

    def save_model(self, request: HttpRequest, person: User, form: Any, change: bool) -> None:
        """Who is added here is to come in here."""
        person.is_staff = person.is_staff or not change
        super().save_model(request, person, form, change)

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return below(request, obj) and bool(super().has_change_permission(request, obj))

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return below(request, obj) and bool(super().has_delete_permission(request, obj))


def below(request: HttpRequest, person: Model | None) -> bool:
    return bool(request.user.is_superuser) or not getattr(person, "is_superuser", False)


@admin.register(Group)
class GroupAdmin(DjangoGroupAdmin, ModelAdmin):
    """The three of the release are as every migrate makes them; and a group gives no more than whoever makes it has."""

    def has_change_permission(self, request: HttpRequest, obj: Group | None = None) -> bool:
        return getattr(obj, "name", "") not in NAMES and bool(super().has_change_permission(request, obj))

    def has_delete_permission(self, request: HttpRequest, obj: Group | None = None) -> bool:
        return getattr(obj, "name", "") not in NAMES and bool(super().has_delete_permission(request, obj))

    def formfield_for_manytomany(self, db_field: Any, request: Any = None, **options: Any) -> Any:
        field = super().formfield_for_manytomany(db_field, request, **options)
        if field is not None and field.queryset is not None and not request.user.is_superuser:
            held = {permission.pk for permission in field.queryset if request.user.has_perm(full_name(permission))}
            field.queryset = field.queryset.filter(pk__in=held)
        return field


def full_name(permission: Any) -> str:
    return f"{permission.content_type.app_label}.{permission.codename}"
