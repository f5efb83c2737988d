"""Django application ``executions``."""

from django.apps import AppConfig
from django.utils.module_loading import autodiscover_modules


class ExecutionsConfig(AppConfig):
    """Register the application and load every app's node types."""

    name = "executions"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Import the ``nodes`` module of every installed app, so that its node types register."""
        autodiscover_modules("nodes")
