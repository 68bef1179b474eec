"""manage.py makemigrations: Django's command, with migrations that contain no labels."""

from django.core.management.commands import makemigrations

from apps.schema.autodetector import Autodetector


class Command(makemigrations.Command):
    autodetector = Autodetector
