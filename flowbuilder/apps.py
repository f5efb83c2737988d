"""The project's own Django application and its admin site."""

import gc
from typing import Any

from django.apps import AppConfig
from django.contrib.admin import apps as admin_apps
from django.contrib.admin import autodiscover
from django.contrib.admin.checks import check_admin_app, check_dependencies
from django.core import checks

from flowbuilder import COLLECTING
from flowbuilder import celery as celery  # so that tasks find the application in every process


class FlowBuilderAdminConfig(admin_apps.SimpleAdminConfig):
    """Django's admin with our site class. ``flowbuilder.urls`` finds the pages: workers and commands show none."""

    default_site = "flowbuilder.site.FlowBuilderSite"

    def ready(self) -> None:
        """Let ``check`` look at the dependencies and the pages, as Django's own does."""
        checks.register(check_dependencies, checks.Tags.admin)
        checks.register(_check_pages, checks.Tags.admin)


def _check_pages(app_configs: Any, **options: Any) -> Any:
    autodiscover()
    return check_admin_app(app_configs, **options)


class FlowBuilderConfig(AppConfig):
    """Commands, templates and static files of the project."""

    name = "flowbuilder"
    default = True

    def ready(self) -> None:
        """Look for garbage as usual again, but no more in what was loaded until now; this application is the last."""
        gc.freeze()
        gc.set_threshold(*COLLECTING)
