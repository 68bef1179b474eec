"""Read-only pages of the source models, except those with password and token hashes."""

from django.apps import apps

from apps.console.readonly import LargeTableAdmin, register_read_only
from apps.sources.auth.models import Credential, Token
from apps.sources.service import Service

NEVER_SHOWN = (Credential, Token)

for config in apps.get_app_configs():
    if isinstance(config, Service):
        for model in config.get_models():
            if model not in NEVER_SHOWN:
                register_read_only(model, LargeTableAdmin)
