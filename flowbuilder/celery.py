"""The Celery application."""

import os

from celery import Celery

from flowbuilder import transport

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "flowbuilder.settings")
os.environ.setdefault("CELERY_SKIP_CHECKS", "1")  # they load every page and API, and Celery drops what they find

transport.install()

app = Celery("flowbuilder", amqp="flowbuilder.transport:AMQP")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.conf.CELERY_DB_REUSE_MAX = 1000  # Celery's Django fixup closes the connection around every task otherwise
app.autodiscover_tasks()
app.autodiscover_tasks(related_name="beat")
app.autodiscover_tasks(related_name="prefork")
app.autodiscover_tasks(related_name="drain")
