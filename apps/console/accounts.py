"""User and group pages. They are Django's own, without the ways in which an administrator could give themselves more rights."""

from typing import Any

from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from allauth.socialaccount.models import SocialAccount, SocialApp, SocialToken
from django.contrib import admin, messages
from django.contrib.auth.admin import GroupAdmin as DjangoGroupAdmin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group, Permission, User
from django.core.exceptions import PermissionDenied
from django.db.models import Model, Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils.translation import gettext_lazy as _
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

from apps.console.groups import GROUPS
from apps.console.second_factor.reset import reset_factors
from apps.console.unreadable import CheckingAdmin

# allauth registers pages that show, and change, whose login and whose second factor is whose.
admin.site.unregister([User, Group, EmailAddress, SocialAccount, SocialApp, SocialToken, Authenticator])


@admin.register(User)
class UserAdmin(DjangoUserAdmin, CheckingAdmin):  # type: ignore[type-arg]
    """Users get permissions through groups alone. Nobody edits a user who has more permissions, and only a superuser edits a superuser."""

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
    change_form_outer_before_template = "console/accounts/second_factor.html"

    @admin.display(description=_("groups"))
    def group_names(self, user: User) -> str:
        return ", ".join(group.name for group in user.groups.all())

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).prefetch_related("groups")

    def save_model(self, request: HttpRequest, user: User, form: Any, change: bool) -> None:
        """Save the user; a new one may log in to the admin."""
        user.is_staff = user.is_staff or not change
        super().save_model(request, user, form, change)

    def formfield_for_manytomany(self, db_field: Any, request: Any = None, **options: Any) -> Any:
        """Return the field; of the groups, it offers those that give no permission beyond the user's own."""
        field = super().formfield_for_manytomany(db_field, request, **options)
        if field is not None and field.queryset is not None and db_field.name == "groups":
            field.queryset = field.queryset.exclude(permissions__in=find_lacking(request.user))
        return field

    def get_urls(self) -> list[Any]:
        reset = self.admin_site.admin_view(self.reset_second_factor)
        return [path("<int:number>/reset-second-factor/", reset, name="auth_user_reset_second_factor"), *super().get_urls()]

    def render_change_form(self, request: HttpRequest, context: dict[str, Any], *args: Any, **options: Any) -> HttpResponse:
        person = context.get("original")
        context["may_reset"] = person is not None and self.may_reset(request, person) and Authenticator.objects.filter(user=person).exists()
        response: HttpResponse = super().render_change_form(request, context, *args, **options)
        return response

    def may_reset(self, request: HttpRequest, person: User) -> bool:
        """Return True for others alone: one's own factors are removed on the page Security, which asks for the password or a factor."""
        return self.has_change_permission(request, person) and person != request.user

    def reset_second_factor(self, request: HttpRequest, number: int) -> HttpResponse:
        person = get_object_or_404(User, pk=number)
        if not self.may_reset(request, person):
            raise PermissionDenied
        back = reverse("admin:auth_user_change", args=[person.pk])
        if request.method == "POST":
            reset_factors(person)
            self.log_change(request, person, "Second factor reset")
            messages.success(request, _("%(person)s logs in without a second factor, and can set one up again.") % {"person": person})
            return redirect(back)
        context = self.admin_site.each_context(request) | {"title": _("Reset second factor"), "person": person, "back": back}
        return TemplateResponse(request, "console/accounts/reset.html", context)

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return may_edit_user(request.user, obj) and bool(super().has_change_permission(request, obj))

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Return False: people are deactivated, so that what they did keeps its name."""
        return False


@admin.register(Group)
class GroupAdmin(DjangoGroupAdmin, CheckingAdmin):
    """The release's three groups cannot be edited; another group gives at most the permissions of the user who edits it."""

    def has_change_permission(self, request: HttpRequest, obj: Group | None = None) -> bool:
        return may_edit_group(request.user, obj) and bool(super().has_change_permission(request, obj))

    def has_delete_permission(self, request: HttpRequest, obj: Group | None = None) -> bool:
        return may_edit_group(request.user, obj) and bool(super().has_delete_permission(request, obj))

    def formfield_for_manytomany(self, db_field: Any, request: Any = None, **options: Any) -> Any:
        """Return the field; of the permissions, it offers the user's own."""
        field = super().formfield_for_manytomany(db_field, request, **options)
        if field is not None and field.queryset is not None:
            field.queryset = field.queryset.exclude(pk__in=find_lacking(request.user))
        return field


# --- Nobody gives, takes or resets more than the permissions they have ---


def may_edit_user(person: Any, edited: Model | None) -> bool:
    """Return True if `edited`, also while deactivated, has no permission that `person` lacks."""
    if not isinstance(edited, User) or person.is_superuser:
        return True
    return not edited.is_superuser and not find_lacking(person).filter(Q(user=edited) | Q(group__user=edited)).exists()


def may_edit_group(person: Any, group: Group | None) -> bool:
    """Return True if the group is none of the release's three and gives no permission that `person` lacks."""
    return group is None or (group.name not in GROUPS and not find_lacking(person).filter(group=group).exists())


def find_lacking(person: Any) -> "QuerySet[Permission]":
    """Return the permissions that a person does not have."""
    held = person.get_all_permissions()
    names = Permission.objects.values_list("pk", "content_type__app_label", "codename")
    return Permission.objects.filter(pk__in=[pk for pk, app, code in names if f"{app}.{code}" not in held])
