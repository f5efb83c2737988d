"""The project's own Django application and its admin site."""

import gc

from django.apps import AppConfig
from django.contrib.admin import apps as admin_apps

from flowbuilder import COLLECTING
from flowbuilder import celery as celery  # so that tasks find the application in every process


class FlowBuilderAdminConfig(admin_apps.SimpleAdminConfig):
    """Django's admin with our site class. ``flowbuilder.urls`` finds the pages: workers and commands show none."""

    default_site = "flowbuilder.site.FlowBuilderSite"


class FlowBuilderConfig(AppConfig):
    """Commands, templates and static files of the project."""

    name = "flowbuilder"
    default = True

    def ready(self) -> None:
        """Look for garbage as usual again, but no more in what was loaded until now; this application is the last."""
        gc.freeze()
        gc.set_threshold(*COLLECTING)
