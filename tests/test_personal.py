"""Personal data needs its permission, also in searches, filters and sort orders. Hashes are shown to nobody."""

import pytest
from django.contrib.auth.models import Group, User
from django.test import Client
from django.urls import reverse

from apps.console.groups import ADMINISTRATOR, OPERATOR, VIEWER
from apps.orchestration.models import Run
from apps.sources.auth.models import Credential, Token
from apps.sources.auth.models import User as Account
from apps.sources.orders.models import Customer, Order
from apps.warehouse.dimensions import DimCustomer
from apps.warehouse.facts import FactSales
from tests.console.conftest import SignIn, empty_cache, loaded_run, sign_in  # noqa: F401  fixtures
from tests.orchestration.conftest import schedules  # noqa: F401  fixture

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")


def list_pages() -> list[str]:
    """Return the address of every list that shows a customer or an account, and of one row of each."""
    fact = FactSales.objects.exclude(customer__lt=0).latest("pk")
    customer = DimCustomer.objects.get(pk=fact.customer_id)
    rows = {
        "dwh_dimcustomer": customer.pk,
        "dwh_factsales": fact.pk,
        "orders_db_customer": customer.customer_id,
        "orders_db_order": fact.order_id,
        "orders_db_orderitem": fact.pk,
        "auth_db_user": Account.objects.get(customer_id=customer.customer_id).pk,
        "auth_db_userrole": Account.objects.get(customer_id=customer.customer_id).userrole_set.get().pk,
    }
    lists = [reverse(f"admin:{name}_changelist") for name in rows]
    return lists + [reverse(f"admin:{name}_change", args=[key]) for name, key in rows.items()]


def read_personal_data() -> set[str]:
    """Return customers' names, e-mails and phones, and accounts' e-mails, without names that employees have too."""
    staff = set(Order.objects.exclude(employee=None).values_list("employee__last_name", flat=True))
    people = Customer.objects.values_list("last_name", "email", "phone")
    return ({text for person in people for text in person} | set(Account.objects.values_list("email", flat=True))) - staff - {""}


def test_viewers_do_not_see_personal_data(loaded_run: Run, sign_in: SignIn) -> None:  # noqa: F811
    viewer, words, hidden = sign_in(VIEWER), read_personal_data(), 0
    for page in list_pages():
        answer = viewer.get(page)
        page_text = answer.content.decode()
        assert answer.status_code == 200 and not [text for text in words if text in page_text], page
        hidden += "•••" in page_text
    assert hidden >= 10, "most of these pages hide something"


@pytest.mark.parametrize("group", [OPERATOR, ADMINISTRATOR])
def test_operators_and_administrators_see_personal_data(loaded_run: Run, sign_in: SignIn, group: str) -> None:  # noqa: F811
    client, customer = sign_in(group), Customer.objects.earliest("pk")
    page_text = client.get(reverse("admin:orders_db_customer_change", args=[customer.pk])).content.decode()
    assert customer.email in page_text and customer.phone in page_text and "•••" not in page_text
    assert len(client.get(reverse("admin:orders_db_customer_changelist"), {"q": customer.email}).context["cl"].result_list) == 1


@pytest.mark.parametrize("lookup", ["email__istartswith", "email"])
def test_viewers_cannot_filter_by_personal_data(loaded_run: Run, sign_in: SignIn, lookup: str) -> None:  # noqa: F811
    address = reverse("admin:orders_db_customer_changelist")
    assert sign_in(VIEWER).get(address, {lookup: "a"}).status_code == 400
    assert sign_in(OPERATOR).get(address, {lookup: "a"}).status_code == 200


def test_viewers_cannot_search_or_sort_by_personal_data(loaded_run: Run, sign_in: SignIn) -> None:  # noqa: F811
    viewer = sign_in(VIEWER)
    address, customer = reverse("admin:orders_db_customer_changelist"), Customer.objects.earliest("pk")
    assert not viewer.get(address, {"q": customer.email}).context["cl"].result_list
    by_id = [row.pk for row in viewer.get(address).context["cl"].result_list]
    columns = sign_in(OPERATOR).get(address).context["cl"].list_display
    for name in ("first_name", "last_name", "email"):
        assert [row.pk for row in viewer.get(address, {"o": columns.index(name)}).context["cl"].result_list] == by_id
    assert [row.pk for row in viewer.get(address, {"o": columns.index("id")}).context["cl"].result_list] == by_id[::-1]


def test_masking_changes_no_row(loaded_run: Run, sign_in: SignIn) -> None:  # noqa: F811
    before = list(Customer.objects.order_by("pk").values_list("pk", "email", "first_name"))
    for page in list_pages():
        client = Client()
        client.force_login(User.objects.filter(groups__name=VIEWER).first() or create_viewer())
        client.get(page)
    assert list(Customer.objects.order_by("pk").values_list("pk", "email", "first_name")) == before


def create_viewer() -> User:
    person = User.objects.create_user("viewer", is_staff=True)
    person.groups.set([Group.objects.get(name=VIEWER)])
    return person


def test_hashes_are_shown_to_nobody(loaded_run: Run, client: Client) -> None:  # noqa: F811
    olena = User.objects.create_superuser("olena", password="a long enough pass phrase")
    client.force_login(olena)
    secrets = {Credential.objects.earliest("pk").password_hash, Token.objects.earliest("pk").token_hash}
    account = Credential.objects.earliest("pk").user
    for page in (
        *list_pages(),
        reverse("admin:auth_db_user_change", args=[account.pk]),
        reverse("admin:auth_user_change", args=[olena.pk]),
    ):
        page_text = client.get(page).content.decode()
        assert not [secret for secret in secrets if secret in page_text] and olena.password.split("$")[-1] not in page_text
    for model in ("credential", "token"):
        assert client.get(f"/admin/auth_db/{model}/").status_code == 404
