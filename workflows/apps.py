"""Django application ``workflows``."""

from django.apps import AppConfig


class WorkflowsConfig(AppConfig):
    """Register the application."""

    name = "workflows"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Let this process see at once what it changes about plans, and its first account."""
        from django.contrib.auth import get_user_model
        from django.db.models.signals import m2m_changed, post_delete, post_save

        from workflows import credits, limits
        from workflows.models import CreditAccount, Plan

        for signal, sender in (
            (post_save, Plan), (post_delete, Plan), (m2m_changed, Plan.users.through), (m2m_changed, Plan.groups.through),
            (m2m_changed, get_user_model().groups.through),
        ):  # fmt: skip
            signal.connect(limits.forget, sender=sender)
        post_save.connect(credits.forget, sender=CreditAccount)
