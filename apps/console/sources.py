"""Every source model, to look at. What auth_db keeps secret stays there: hashes and tokens are not shown at all."""

from django.apps import apps

from apps.console.readonly import show
from apps.sources.auth.models import Credential, Token
from apps.sources.service import Service

SECRET = (Credential, Token)

for config in apps.get_app_configs():
    if isinstance(config, Service):
        for model in config.get_models():
            if model not in SECRET:
                show(model)
