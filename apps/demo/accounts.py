"""Accounts of the demo shop: one for each customer and employee and one administrator, with credentials, roles and tokens."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from apps.demo.bulk import Columns, insert_rows, with_timestamps
from apps.demo.catalog import OPENED_AT
from apps.demo.people import STAFF_DOMAIN, PeopleChunk
from apps.demo.randomness import draw_flags, draw_weighted, make_rng, pick
from apps.demo.timestamps import DAY, HOUR, MINUTE, SECOND, Timestamps, add_microseconds, format_timestamps
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
USER_AGENTS = ["Firefox on Linux", "Chrome on Android", "Safari on iPhone", "Edge on Windows", "TechMarket app"]
NETWORKS = ["192.0.2", "198.51.100", "203.0.113"]  # reserved for documentation (RFC 5737)


def hash_parts(*parts: object) -> str:
    """Return a SHA-256 of the parts, 64 hexadecimal digits."""
    return hashlib.sha256("/".join(map(str, parts)).encode()).hexdigest()


def make_password_hash(*parts: object) -> str:
    """Make a text of the form of an Argon2 hash; it is the hash of no password."""
    text = hash_parts(*parts)
    return f"$argon2id$v=19$m=65536,t=3,p=4${text[:22]}${text[21:]}"


@dataclass
class AccountWriter:
    """Writes auth_db chunk by chunk. `last_ids` is the last id of each table, which is also its number of rows."""

    seed: int
    last_ids: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(("roles", "auth_users", "auth_credentials", "user_roles", "auth_tokens"), 0)
    )

    def write_roles(self) -> None:
        opened_at = np.full(len(ROLES), OPENED_AT)
        rows: Columns = {"id": list(ROLE_ID.values()), "name": [role.value for role in ROLES], "comment": list(ROLES.values())}
        self.last_ids["roles"] += insert_rows(Role, with_timestamps(rows, opened_at, opened_at))

    def write_administrator(self) -> None:
        roles = [[RoleName.ADMIN, RoleName.BI_VIEWER]]
        self._write_accounts([f"admin@{STAFF_DOMAIN}"], [None], [None], roles, np.full(1, OPENED_AT))

    def write_employees(self, persons: PeopleChunk) -> None:
        managers = persons.columns["is_manager"]
        roles = [[RoleName.SALES, RoleName.BI_VIEWER] if manager else [RoleName.SALES] for manager in managers]
        self._write_accounts(persons.emails, [None] * len(managers), persons.columns["id"], roles, persons.created_at)

    def write_customers(self, persons: PeopleChunk) -> None:
        size = len(persons.emails)
        self._write_accounts(persons.emails, persons.columns["id"], [None] * size, [[RoleName.CUSTOMER]] * size, persons.created_at)

    def _write_accounts(
        self,
        emails: list[str],
        customers: Sequence[int | None],
        employees: Sequence[int | None],
        roles: list[list[RoleName]],
        created_at: Timestamps,
    ) -> None:
        rng = make_rng(self.seed, "accounts", self.last_ids["auth_users"])
        ids = self._allocate_ids("auth_users", len(emails))
        created_at = add_microseconds(created_at, rng.integers(SECOND, MINUTE, len(ids)))
        rows: Columns = {
            "id": ids,
            "email": emails,
            "status": pick(STATUSES, draw_weighted(rng, STATUS_PERCENTS, len(ids)))
            if customers[0]
            else [UserStatus.ACTIVE.value] * len(ids),
            "customer_id": customers,
            "employee_id": employees,
        }
        insert_rows(User, with_timestamps(rows, created_at, created_at))
        self._write_credentials(ids, created_at)
        self._write_user_roles(ids, roles, created_at)
        self._write_tokens(rng, ids, created_at)

    def _allocate_ids(self, table: str, count: int) -> list[int]:
        first = self.last_ids[table] + 1
        self.last_ids[table] += count
        return list(range(first, first + count))

    def _write_credentials(self, users: list[int], created_at: Timestamps) -> None:
        rows: Columns = {
            "id": self._allocate_ids("auth_credentials", len(users)),
            "user_id": users,
            "password_hash": [make_password_hash(self.seed, "password", user) for user in users],
            "algo": ["argon2id"] * len(users),
            "password_updated_at": format_timestamps(created_at),
        }
        insert_rows(Credential, with_timestamps(rows, created_at, created_at))

    def _write_user_roles(self, users: list[int], roles: list[list[RoleName]], created_at: Timestamps) -> None:
        counts = np.array([len(names) for names in roles])
        created_at = np.repeat(created_at, counts)
        rows: Columns = {
            "id": self._allocate_ids("user_roles", len(created_at)),
            "user_id": np.repeat(users, counts).tolist(),
            "role_id": [ROLE_ID[name] for names in roles for name in names],
        }
        insert_rows(UserRole, with_timestamps(rows, created_at, created_at))

    def _write_tokens(self, rng: np.random.Generator, users: list[int], created_at: Timestamps) -> None:
        owners = np.flatnonzero(draw_flags(rng, TOKEN_PERCENT, len(users)))
        size = len(owners)
        issued = add_microseconds(created_at[owners], rng.integers(HOUR, TOKEN_DAYS * DAY, size))
        used = add_microseconds(issued, rng.integers(MINUTE, TOKEN_DAYS * DAY, size))
        hosts = zip(pick(NETWORKS, rng.integers(0, len(NETWORKS), size)), rng.integers(1, 255, size).tolist(), strict=True)
        rows: Columns = {
            "id": self._allocate_ids("auth_tokens", size),
            "user_id": [users[owner] for owner in owners.tolist()],
            "token_hash": [hash_parts(self.seed, "token", users[owner]) for owner in owners.tolist()],
            "issued_at": format_timestamps(issued),
            "expires_at": format_timestamps(issued + np.timedelta64(TOKEN_DAYS, "D")),
            "revoked": draw_flags(rng, 10, size).astype(int).tolist(),
            "last_used_at": format_timestamps(used),
            "user_agent": pick(USER_AGENTS, rng.integers(0, len(USER_AGENTS), size)),
            "ip": [f"{network}.{host}" for network, host in hosts],
            "scopes": ["shop"] * size,
        }
        insert_rows(Token, with_timestamps(rows, issued, used))
