"""The project's own Django application and its admin site."""

from django.apps import AppConfig
from django.contrib.admin import apps as admin_apps

from flowbuilder import celery as celery  # so that tasks find the application in every process


class FlowBuilderAdminConfig(admin_apps.AdminConfig):
    """Django's admin with our site class."""

    default = False
    default_site = "flowbuilder.site.FlowBuilderSite"


class FlowBuilderConfig(AppConfig):
    """Commands, templates and static files of the project."""

    name = "flowbuilder"
    default = True
