"""The web process, with the node types of the fault tests."""

from flowbuilder.asgi import application
from tests.faults import worker_app

__all__ = ["application", "worker_app"]
