"""Registration of a customer in an existing shop, with an account to sign in."""

from functools import lru_cache

import numpy as np
from django.db import transaction
from django.db.models import Max
from django.db.models.functions import Now

from apps.demo.accounts import make_password_hash
from apps.demo.names import NamePool
from apps.demo.people import CUSTOMER_DOMAINS, draw_phones
from apps.sources.auth.models import Credential, Role, RoleName, User, UserRole, UserStatus
from apps.sources.orders.models import Customer, Region


@lru_cache(maxsize=1)
def get_name_pool(seed: int) -> NamePool:
    return NamePool(seed)


def register_customer(rng: np.random.Generator) -> int:
    """Create a customer and the account; return the customer's id. The e-mail holds the next id, so that it is unique."""
    people = get_name_pool(0).draw_people(rng, 1)
    regions = list(Region.objects.order_by("id").values_list("id", flat=True))
    number = (Customer.objects.aggregate(last=Max("id"))["last"] or 0) + 1
    customer = Customer.objects.create(
        first_name=people.first_names[0],
        last_name=people.last_names[0],
        email=f"{people.mailboxes[0]}.{number}.{int(rng.integers(1_000_000))}@{CUSTOMER_DOMAINS[int(rng.integers(len(CUSTOMER_DOMAINS)))]}",
        phone=draw_phones(rng, 1)[0],
        region_id=regions[int(rng.integers(len(regions)))],
    )
    create_account(customer)
    return customer.id


def create_account(customer: Customer) -> None:
    with transaction.atomic(using="auth_db"):
        user = User.objects.create(email=customer.email, status=UserStatus.ACTIVE, customer_id=customer.id)
        Credential.objects.create(user=user, password_hash=make_password_hash(customer.email), algo="argon2id", password_updated_at=Now())
        for role in Role.objects.filter(name=RoleName.CUSTOMER):
            UserRole.objects.create(user=user, role=role)
