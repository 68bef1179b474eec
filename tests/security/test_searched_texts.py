"""What is searched for in personal data stands in the audit log as a keyed hash, and everything else as it was asked for."""

from django.http import QueryDict
from pytest_django.fixtures import Settings

from apps.console.personal import describe_query, hash_text
from apps.orchestration.models import StandingReject
from apps.sources.orders.models import Customer
from apps.warehouse.models import FactSales

QUERY = QueryDict("q=Olena%40shop.example&email__startswith=olena&region=2&p=1")


def test_search_in_personal_data_is_hashed() -> None:
    text = describe_query(Customer, QUERY)
    assert "olena" not in text.lower() and text.endswith("&region=2&p=1") and text.startswith("q=hash-")
    assert "hash-" in describe_query(StandingReject, QueryDict("q=olena"))


def test_search_elsewhere_is_recorded_as_it_is() -> None:
    assert describe_query(FactSales, QUERY) == QUERY.urlencode()


def test_hash_can_be_compared_and_depends_on_the_key(settings: Settings) -> None:
    before = hash_text(" OLENA@shop.example ")
    assert before == hash_text("olena@shop.example") != hash_text("petro@shop.example")
    settings.SECRET_KEY = "another key, which is long enough"
    assert hash_text("olena@shop.example") != before
