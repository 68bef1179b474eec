"""Django's makemigrations, which leaves labels out of a migration."""

from django.core.management.commands import makemigrations

from apps.schema.autodetector import Autodetector


class Command(makemigrations.Command):
    autodetector = Autodetector
