"""manage.py reset_second_factor: for somebody who has lost theirs, where no administrator can log in."""

from typing import Any

from django.contrib.auth.models import User
from django.core.management.base import CommandParser

from apps.console.second_factor.reset import reset_factors
from techmarket.commands import Command as BaseCommand
from techmarket.commands import ExitCode, stop


class Command(BaseCommand):
    help = (
        "Remove the authenticator app, the passkeys and the recovery codes of a user, who then logs in by the password alone. "
        "Exit codes: 0 done; 2 usage, or there is no such user; 4 the control database is unreachable or not migrated."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("user", help="the name that they log in with")

    def handle(self, **options: Any) -> None:
        person = User.objects.filter(username=options["user"]).first()
        if person is None:
            stop("There is no user with this name. The names are on the page Users of the admin.", ExitCode.USAGE)
        count = reset_factors(person)
        self.stdout.write(f"{person}: {count} removed." if count else f"{person} had no second factor.")
