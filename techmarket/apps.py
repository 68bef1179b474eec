from django.apps import AppConfig


class TechMarketConfig(AppConfig):
    """What every process sets up, whichever program it is. It has no models."""

    name = "techmarket"

    def ready(self) -> None:
        from django.db.backends.signals import connection_created

        from techmarket.sessions import set_session

        connection_created.connect(set_session)
