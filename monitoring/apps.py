"""Django application ``monitoring``."""

from django.apps import AppConfig


class MonitoringConfig(AppConfig):
    """Register the application."""

    name = "monitoring"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Let a rotation of the keys take the channels along."""
        from monitoring.alerts.channels import holder
        from monitoring.models import AlertChannel
        from workflows.credentials import SEALED

        SEALED[AlertChannel] = ("channel", lambda row: holder(row.pk))
