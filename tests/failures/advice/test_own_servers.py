"""Steps whose cause concerns a whole server."""

from collections.abc import Iterator

import pytest

from tests.failures.advice import own
from tests.failures.advice.steps import take
from tests.failures.conftest import needs_servers

pytestmark = [needs_servers, pytest.mark.process, pytest.mark.servers]

OWN = {
    "database.bad_password_or_plain": own.tls_demanded,
    "database.no_encryption": own.wrong_authority,
    "database.host_refused": own.host_refused,
    "database.host_blocked": own.host_blocked,
    "database.read_only_server": own.read_only_server,
    "database.small_packets": own.small_packets,
    "database.login_method": own.other_login_method,
    "database.no_free_connection": own.no_free_connection,
    "database.storage_error 2": own.lost_table_file,
    "database.unreachable": own.stopped_server,
    "database.restarting": own.stopping_server,
    "database.storage_error": own.unreadable_file,
    "database.damaged": own.damaged_page,
    "database.no_memory": own.no_memory,
}


@pytest.fixture(scope="module")
def shop() -> Iterator[own.OwnShop]:
    with own.own_shop() as shop:
        yield shop


@pytest.mark.parametrize("code", OWN)
def test_step_helps(shop: own.OwnShop, code: str) -> None:
    take(shop, OWN[code], code.split()[0])
