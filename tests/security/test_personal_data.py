"""No address of the admin shows personal data to a person without the permission, in whatever way it is asked."""

import pytest
from django.contrib.auth.models import Permission, User
from django.db.models import CharField, Value
from django.db.models.functions import Cast, Concat
from django.test import Client
from django.utils import timezone

from apps.console.groups import OPERATOR, VIEWER
from apps.demo import shop
from apps.orchestration import api
from apps.orchestration.models import Reject, Run, StandingReject, Task
from apps.sources.auth.models import User as Account
from apps.sources.orders.models import Customer, Employee
from tests.console.conftest import SignIn
from tests.security.crawl import crawl, list_filters_by_personal_data

pytestmark = [
    pytest.mark.django_db(transaction=True, databases="__all__"),
    pytest.mark.once,  # what hides a row is no database's doing
    pytest.mark.filterwarnings("ignore:Pagination may yield inconsistent results"),  # of Django's autocompletion
    pytest.mark.filterwarnings("ignore:DateTimeField .* received a naive datetime:RuntimeWarning"),  # of Django's filters of dates
]

# Each personal string begins with the canary; what is searched for is shorter, since pages repeat it.
CANARY, TERM = "qzxv", "qzx"


@pytest.fixture
def canaries(transactional_db: None, schedules: None) -> None:
    """Load a shop whose personal strings are known, with rejects that hold some of them."""
    shop.generate(40, 7)
    number = Cast("pk", CharField())
    email = Concat(Value(CANARY), number, Value("@example.com"))
    names = {name: Concat(Value(CANARY + name), number) for name in ("first_name", "last_name")}
    Customer.objects.update(email=email, phone=Concat(Value(CANARY), number), **names)
    Employee.objects.update(email=email, **names)
    Account.objects.update(email=email)
    run = api.run("full")
    assert run.state == "succeeded"
    add_rejects(run)


def add_rejects(run: Run) -> None:
    task, now = Task.objects.filter(run=run).first(), timezone.now()
    raw = {"table": "customers", "row_id": "1", "rule": "email_missing", "params": {}, "raw": {"id": 1, "first_name": CANARY}}
    Reject.objects.create(run=run, task=task, **raw)
    StandingReject.objects.create(subject="dim_customer", first_run=run.pk, last_run=run.pk, first_seen=now, last_seen=now, **raw)


@pytest.fixture
def deputy(transactional_db: None) -> Client:
    """Return a client signed in as a person with every permission but that to see personal data."""
    person = User.objects.create_user("deputy", is_staff=True)
    person.user_permissions.set(Permission.objects.exclude(codename="view_raw"))
    client = Client()
    client.force_login(person)
    return client


@pytest.mark.parametrize("role", [VIEWER, "deputy", "nobody"])
def test_no_address_shows_personal_data(canaries: None, sign_in: SignIn, deputy: Client, role: str) -> None:
    client = deputy if role == "deputy" else sign_in(VIEWER)
    if role == "nobody":
        person = User.objects.get(username=VIEWER)
        person.groups.clear()
        client.force_login(person)  # the session has ended with the rights it began with
    filters, answers = set(list_filters_by_personal_data(TERM)), list(crawl(client, TERM))
    print(f"{role}: {len(answers)} addresses")
    assert len(answers) > 1000 and not [answer.address for answer in answers if answer.status >= 500]
    assert not [answer.address for answer in answers if CANARY in answer.text]
    assert len(filters) > 50 and not [answer.address for answer in answers if answer.address in filters and answer.status == 200]


def test_operators_see_personal_data_on_the_same_addresses(canaries: None, sign_in: SignIn) -> None:
    parts = ("/autocomplete/", "/orders_db/customer/", "/dwh/dimemployee/", "/csv/", "/xlsx/", "/orchestration/reject/")
    operator = sign_in(OPERATOR)
    found = [answer.address for answer in crawl(operator, TERM, parts) if CANARY in answer.text]
    assert [part for part in parts if not any(part in address for address in found)] == []
    assert CANARY in operator.get("/admin/").content.decode(), "the managers of the overview"
