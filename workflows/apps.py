"""Django application ``workflows``."""

from django.apps import AppConfig


class WorkflowsConfig(AppConfig):
    """Register the application."""

    name = "workflows"
    default_auto_field = "django.db.models.BigAutoField"
