"""Django application ``executions``."""

from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db.backends.signals import connection_created
from django.db.models.signals import pre_delete
from django.utils.module_loading import autodiscover_modules


class ExecutionsConfig(AppConfig):
    """Register the application and load every app's node types."""

    name = "executions"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Import the ``nodes`` module of every installed app, and give recordings what only we can answer."""
        from executions import events, logs, metering
        from executions.models import Execution
        from recordings import keeping, sources
        from workflows.errors import UnknownNodeType
        from workflows.limits import recordings_kept
        from workflows.registry import set_costs

        logs.install()
        autodiscover_modules("nodes")
        try:
            set_costs(settings.CREDIT_COSTS)
        except UnknownNodeType as error:
            raise ImproperlyConfigured(f"FLOWBUILDER_CREDIT_COSTS is wrong: {error}") from None
        connection_created.connect(without_jit)
        pre_delete.connect(metering.settle_deleted, sender=Execution)
        sources.OUTPUT_SOURCE = events.outputs_of
        sources.OUTPUT_BLOBS = events.output_blobs_of
        sources.OUTPUTS_NEEDED = events.outputs_needed
        sources.RELEASE_OUTPUTS = events.release_outputs
        keeping.WORKFLOW_RETENTION = events.workflow_retention
        keeping.USER_RETENTION = recordings_kept
        sources.EDGE_SOURCE = events.edges_of
        sources.ARTIFACT_POLICY = lambda user, execution_id: (
            Execution.objects.visible_to(user).filter(pk=execution_id).exists()
        )


def without_jit(connection: Any, **kwargs: Any) -> None:
    """Let PostgreSQL not compile queries: for ours, which take milliseconds, it takes half a second each time."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SET jit = off")
