"""Django application ``monitoring``."""

from django.apps import AppConfig


class MonitoringConfig(AppConfig):
    """Register the application, and let beat count and watch."""

    name = "monitoring"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Hang our tick into that of beat, and let a rotation of the keys take the channels along."""
        from executions.upper import BEAT_TICKS
        from monitoring.alerts.channels import holder
        from monitoring.models import AlertChannel
        from monitoring.tick import tick
        from workflows.credentials import SEALED

        SEALED[AlertChannel] = ("channel", lambda row: holder(row.pk))
        if tick not in BEAT_TICKS:
            BEAT_TICKS.append(tick)
