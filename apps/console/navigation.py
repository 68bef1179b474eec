"""The sidebar, grouped by subject instead of by Django app. It lists the models that the user may view."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.templatetags.static import static
from django.urls import reverse
from django.utils.text import capfirst
from django.utils.translation import gettext_lazy as _

from apps.console.oidc.people import is_from_provider

# Title, whether the group is collapsible, and its models with their icons, in order.
GROUPS: tuple[tuple[Any, bool, dict[str, str]], ...] = (
    (
        _("Runs"),
        False,
        {
            "orchestration.run": "play_circle",
            "orchestration.dayproof": "fact_check",
            "orchestration.paymentmismatch": "price_check",
            "orchestration.standingreject": "report",
            "orchestration.reject": "history_toggle_off",
            "orchestration.scheduledrun": "event_upcoming",
            "django_celery_beat.periodictask": "schedule",
            "django_celery_beat.crontabschedule": "calendar_clock",
            "orchestration.schedule": "history",
        },
    ),
    (
        _("Warehouse"),
        False,
        {
            "dwh.factsales": "receipt_long",
            "dwh.dimdate": "calendar_month",
            "dwh.dimregion": "map",
            "dwh.dimcategory": "category",
            "dwh.dimproduct": "inventory_2",
            "dwh.dimcustomer": "person",
            "dwh.dimemployee": "badge",
            "dwh.load": "publish",
            "dwh.orderfingerprint": "fingerprint",
            "dwh.segment": "data_check",
            "dwh.linecost": "sell",
        },
    ),
    (
        _("Sources"),
        True,
        {
            "orders_db.order": "shopping_cart",
            "orders_db.orderitem": "list",
            "orders_db.customer": "person",
            "orders_db.employee": "badge",
            "orders_db.region": "map",
            "catalog_db.product": "inventory_2",
            "catalog_db.category": "category",
            "payments_db.payment": "payments",
            "auth_db.user": "account_circle",
            "auth_db.role": "key",
            "auth_db.userrole": "vpn_key",
        },
    ),
    (
        _("Users"),
        False,
        {"auth.user": "manage_accounts", "auth.group": "groups", "audit.entry": "policy", "orchestration.erasure": "person_off"},
    ),
)


def sidebar(request: HttpRequest) -> list[dict[str, Any]]:
    """Return the navigation as unfold takes it."""
    overview = {
        "title": _("Overview"),
        "icon": "monitoring",
        "link": reverse("admin:index"),
        "active": request.path == reverse("admin:index"),
    }
    groups = [
        {"title": title, "separator": True, "collapsible": collapsible, "items": items(request, models)}
        for title, collapsible, models in GROUPS
    ]
    return [{"items": [overview]}, *(group for group in groups if group["items"])]


def items(request: HttpRequest, icons: dict[str, str]) -> list[dict[str, Any]]:
    pages = {model._meta.label_lower: page for model, page in admin.site._registry.items() if page.has_view_permission(request)}
    return [
        {
            "title": capfirst(pages[label].opts.verbose_name_plural),
            "icon": icon,
            "link": reverse(f"admin:{label.replace('.', '_')}_changelist"),
        }
        for label, icon in icons.items()
        if label in pages
    ]


def account_links(request: HttpRequest) -> list[dict[str, Any]]:
    """Return the links of the user's menu: none for people of the provider, which keeps their password and factor."""
    if not request.user.is_authenticated or not request.user.has_usable_password() or is_from_provider(request.user):
        return []
    return [
        {"title": _("Security"), "link": reverse("mfa_index")},
        {"title": _("Change password"), "link": reverse("admin:password_change")},
    ]


def stylesheet(request: HttpRequest) -> str:
    return static("console/pages.css")


def script(request: HttpRequest) -> str:
    return static("console/pages.js")


def icon(request: HttpRequest) -> str:
    return static("console/icon.svg")
