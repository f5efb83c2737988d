"""Django application ``monitoring``."""

from django.apps import AppConfig


class MonitoringConfig(AppConfig):
    """Register the application, and let beat count and watch."""

    name = "monitoring"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Hang our tick into that of beat, watch beside it, and let a rotation of the keys take the channels along."""
        from celery.signals import beat_init

        from executions.upper import BEAT_TICKS
        from monitoring.alerts import watch
        from monitoring.alerts.channels import holder
        from monitoring.models import AlertChannel
        from monitoring.tick import tick
        from workflows.credentials import SEALED

        SEALED[AlertChannel] = ("channel", lambda row: holder(row.pk))
        beat_init.connect(watch.start, dispatch_uid="alerts")
        if tick not in BEAT_TICKS:
            BEAT_TICKS.append(tick)
