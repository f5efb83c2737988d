"""Django application ``executions``."""

from importlib.metadata import entry_points
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
        """Import the node types of every installed app and package, and give recordings what only we can answer."""
        from executions import events, logs, metering
        from executions.models import Execution
        from recordings import keeping, sources
        from workflows.errors import UnknownNodeType
        from workflows.limits import recordings_kept
        from workflows.registry import set_costs

        logs.install()
        autodiscover_modules("nodes")
        load_installed_nodes()
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


NODES_OF_PACKAGES = "flowbuilder.nodes"
"""The group of entry points by which an installed package names the modules with its node types."""


def load_installed_nodes() -> None:
    """Import what installed packages name as their node types; importing registers them.

    Raises:
        ImproperlyConfigured: something cannot be imported, or replaces a node type that there is already.
    """
    from workflows.registry import NODE_REGISTRY

    for point in entry_points(group=NODES_OF_PACKAGES):
        whose = f'the package "{point.dist.name if point.dist else point.value}"'
        before = dict(NODE_REGISTRY)
        try:
            point.load()
        except Exception as error:
            raise ImproperlyConfigured(
                f"the node types of {whose} ({point.value}) cannot be loaded: {error!r}; mend it or uninstall it"
            ) from error
        if taken := [name for name, executor in before.items() if NODE_REGISTRY[name] is not executor]:
            raise ImproperlyConfigured(
                f"{whose} brings a node type {', '.join(taken)}, which there is already; uninstall one of the two"
            )


def without_jit(connection: Any, **kwargs: Any) -> None:
    """Let PostgreSQL not compile queries: for far pages of long lists it takes half a second or more, each time."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SET jit = off")
