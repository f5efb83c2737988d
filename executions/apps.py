"""Django application ``executions``."""

from django.apps import AppConfig
from django.utils.module_loading import autodiscover_modules


class ExecutionsConfig(AppConfig):
    """Register the application and load every app's node types."""

    name = "executions"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Import the ``nodes`` module of every installed app, and give recordings what only we can answer."""
        from executions import events
        from executions.models import Execution
        from recordings import database

        autodiscover_modules("nodes")
        database.OUTPUT_SOURCE = events.outputs_of
        database.OUTPUT_BLOBS = events.output_blobs_of
        database.BLOBS_IN_USE = events.blobs_in_use
        database.ARTIFACT_POLICY = lambda user, execution_id: (
            Execution.objects.visible_to(user).filter(pk=execution_id).exists()
        )
