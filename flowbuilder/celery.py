"""The Celery application."""

import os
from typing import Any

from celery import Celery
from django.conf import settings

from flowbuilder import transport

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "flowbuilder.settings")
os.environ.setdefault("CELERY_SKIP_CHECKS", "1")  # they load every page and API, and Celery drops what they find

transport.install()


def celery_settings() -> dict[str, Any]:
    """Return those of the settings that are Celery's, under its names.

    A worker tells what it was given to everybody who asks (``inspect conf``, Flower), and Celery masks only what it
    knows: of all the settings that would be addresses with passwords and the variables of workflows, too.
    """
    mark = "CELERY_"
    return {name.removeprefix(mark).lower(): getattr(settings, name) for name in dir(settings) if name.startswith(mark)}


app = Celery("flowbuilder", amqp="flowbuilder.transport:AMQP")
app.add_defaults(celery_settings)
app.conf.CELERY_DB_REUSE_MAX = 1000  # Celery's Django fixup closes the connection around every task otherwise
app.autodiscover_tasks()
app.autodiscover_tasks(related_name="beat")
app.autodiscover_tasks(related_name="prefork")
app.autodiscover_tasks(related_name="drain")
