"""Django application ``recordings``."""

from django.apps import AppConfig


class RecordingsConfig(AppConfig):
    """Register the application."""

    name = "recordings"
    default_auto_field = "django.db.models.BigAutoField"
