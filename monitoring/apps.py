"""Django application ``monitoring``."""

from django.apps import AppConfig


class MonitoringConfig(AppConfig):
    """Register the application."""

    name = "monitoring"
    default_auto_field = "django.db.models.BigAutoField"
