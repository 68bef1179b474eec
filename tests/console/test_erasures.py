"""The administrator's form for a customer to forget."""

import pytest
from django.urls import reverse

from apps.console.groups import ADMINISTRATOR, OPERATOR
from apps.demo import shop
from apps.orchestration.models import Erasure
from apps.sources.orders.models import Customer
from tests.console.conftest import SignIn

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")
FORM = {"reason": "R-12", "confirmed": "on"}


def test_administrator_is_shown_once_what_happens_next(sign_in: SignIn) -> None:
    shop.generate(20, 1)
    customer_id = Customer.objects.earliest("pk").pk
    answer = sign_in(ADMINISTRATOR).post(reverse("admin:orchestration_erasure_add"), FORM | {"customer_id": customer_id}, follow=True)
    assert [str(each) for each in answer.context["messages"]] == ["A worker erases the customer now, or once the active run has ended."]
    assert (Erasure.objects.get().customer_id, Erasure.objects.get().reason) == (customer_id, "R-12")


@pytest.mark.parametrize("form", [FORM | {"customer_id": 999_999}, FORM | {"customer_id": ""}, FORM | {"reason": ""}, {"customer_id": 1}])
def test_incomplete_form_asks_for_nothing(sign_in: SignIn, form: dict[str, object]) -> None:
    answer = sign_in(ADMINISTRATOR).post(reverse("admin:orchestration_erasure_add"), form)
    assert answer.status_code == 200 and answer.context["errors"] and not Erasure.objects.exists()


def test_operator_may_not(sign_in: SignIn) -> None:
    assert sign_in(OPERATOR).post(reverse("admin:orchestration_erasure_add"), FORM | {"customer_id": 1}).status_code == 403
