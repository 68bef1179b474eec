"""Who may do what in the demo shop: an account for each customer and employee and one administrator, with credentials, roles and tokens."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from apps.demo import instants
from apps.demo.catalog import OPENED
from apps.demo.draw import chosen, pick, stream, weighted
from apps.demo.people import STAFF_DOMAIN, Persons
from apps.demo.write import Columns, insert, stamped
from apps.sources.auth.models import Credential, Role, RoleName, Token, User, UserRole, UserStatus

ROLES = {
    RoleName.ADMIN: "Everything",
    RoleName.SALES: "Orders and customers",
    RoleName.CUSTOMER: "Their own orders",
    RoleName.BI_VIEWER: "Reports, read-only",
}
ROLE_ID = {role: number for number, role in enumerate(ROLES, start=1)}
STATUSES = [UserStatus.ACTIVE.value, UserStatus.DISABLED.value, UserStatus.BLOCKED.value]
STATUS_PERCENTS = [92, 5, 3]
TOKEN_PERCENT = 40
TOKEN_DAYS = 30
AGENTS = ["Firefox on Linux", "Chrome on Android", "Safari on iPhone", "Edge on Windows", "TechMarket app"]
NETWORKS = ["192.0.2", "198.51.100", "203.0.113"]  # for documentation (RFC 5737): nobody's addresses


def digest(*parts: object) -> str:
    return hashlib.sha256("/".join(map(str, parts)).encode()).hexdigest()


def password_hash(*parts: object) -> str:
    """The shape of a password's hash; no password opens it."""
    text = digest(*parts)
    return f"$argon2id$v=19$m=65536,t=3,p=4${text[:22]}${text[21:]}"


@dataclass
class Accounts:
    """Writes auth_db chunk after chunk; remembers the last id of each table."""

    seed: int
    written: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(("roles", "auth_users", "auth_credentials", "user_roles", "auth_tokens"), 0)
    )

    def write_roles(self) -> None:
        opened = np.full(len(ROLES), OPENED)
        rows: Columns = {"id": list(ROLE_ID.values()), "name": [role.value for role in ROLES], "comment": list(ROLES.values())}
        self.written["roles"] += insert(Role, stamped(rows, opened, opened))

    def write_administrator(self) -> None:
        roles = [[RoleName.ADMIN, RoleName.BI_VIEWER]]
        self._write([f"admin@{STAFF_DOMAIN}"], [None], [None], roles, np.full(1, OPENED))

    def write_employees(self, persons: Persons) -> None:
        managers = persons.columns["is_manager"]
        roles = [[RoleName.SALES, RoleName.BI_VIEWER] if manager else [RoleName.SALES] for manager in managers]
        self._write(persons.emails, [None] * len(managers), persons.columns["id"], roles, persons.created_at)

    def write_customers(self, persons: Persons) -> None:
        size = len(persons.emails)
        self._write(persons.emails, persons.columns["id"], [None] * size, [[RoleName.CUSTOMER]] * size, persons.created_at)

    def _write(
        self,
        emails: list[str],
        customers: Sequence[int | None],
        employees: Sequence[int | None],
        roles: list[list[RoleName]],
        since: instants.Instants,
    ) -> None:
        rng = stream(self.seed, "accounts", self.written["auth_users"])
        ids = self._ids("auth_users", len(emails))
        since = instants.later(since, rng.integers(instants.SECOND, instants.MINUTE, len(ids)))
        rows: Columns = {
            "id": ids,
            "email": emails,
            "status": pick(STATUSES, weighted(rng, STATUS_PERCENTS, len(ids))) if customers[0] else [UserStatus.ACTIVE.value] * len(ids),
            "customer_id": customers,
            "employee_id": employees,
        }
        insert(User, stamped(rows, since, since))
        self._write_credentials(ids, since)
        self._write_roles_of(ids, roles, since)
        self._write_tokens(rng, ids, since)

    def _ids(self, table: str, count: int) -> list[int]:
        first = self.written[table] + 1
        self.written[table] += count
        return list(range(first, first + count))

    def _write_credentials(self, users: list[int], since: instants.Instants) -> None:
        rows: Columns = {
            "id": self._ids("auth_credentials", len(users)),
            "user_id": users,
            "password_hash": [password_hash(self.seed, "password", user) for user in users],
            "algo": ["argon2id"] * len(users),
            "password_updated_at": instants.written(since),
        }
        insert(Credential, stamped(rows, since, since))

    def _write_roles_of(self, users: list[int], roles: list[list[RoleName]], since: instants.Instants) -> None:
        counts = np.array([len(names) for names in roles])
        since = np.repeat(since, counts)
        rows: Columns = {
            "id": self._ids("user_roles", len(since)),
            "user_id": np.repeat(users, counts).tolist(),
            "role_id": [ROLE_ID[name] for names in roles for name in names],
        }
        insert(UserRole, stamped(rows, since, since))

    def _write_tokens(self, rng: np.random.Generator, users: list[int], since: instants.Instants) -> None:
        holders = np.flatnonzero(chosen(rng, TOKEN_PERCENT, len(users)))
        size = len(holders)
        issued = instants.later(since[holders], rng.integers(instants.HOUR, TOKEN_DAYS * instants.DAY, size))
        used = instants.later(issued, rng.integers(instants.MINUTE, TOKEN_DAYS * instants.DAY, size))
        hosts = zip(pick(NETWORKS, rng.integers(0, len(NETWORKS), size)), rng.integers(1, 255, size).tolist(), strict=True)
        rows: Columns = {
            "id": self._ids("auth_tokens", size),
            "user_id": [users[holder] for holder in holders.tolist()],
            "token_hash": [digest(self.seed, "token", users[holder]) for holder in holders.tolist()],
            "issued_at": instants.written(issued),
            "expires_at": instants.written(issued + np.timedelta64(TOKEN_DAYS, "D")),
            "revoked": chosen(rng, 10, size).astype(int).tolist(),
            "last_used_at": instants.written(used),
            "user_agent": pick(AGENTS, rng.integers(0, len(AGENTS), size)),
            "ip": [f"{network}.{host}" for network, host in hosts],
            "scopes": ["shop"] * size,
        }
        insert(Token, stamped(rows, issued, used))
