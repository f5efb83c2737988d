"""``./flow up``: start everything."""

from __future__ import annotations

import os
import sys
from typing import Any

from django.conf import settings
from django.core.management.base import CommandParser

from flowbuilder import supervisor
from flowbuilder.management.base import ProductCommand


class Command(ProductCommand):
    """Start Redis (unless REDIS_URL is set), web, workers, beat and the demo site; Ctrl-C stops them."""

    help = (
        "Start Redis (unless REDIS_URL is set), web pages, workers, scheduler and the demo site. "
        "Prints the address, and the password of the first user once. Ctrl-C stops everything."
    )
    examples = ("./flow up", "./flow up --port 8100 --workers 2", "./flow up --no-demo")

    def add_options(self, parser: CommandParser) -> None:
        """Add the options of the supervisor."""
        supervisor.add_options(parser)

    def run(self, options: dict[str, Any]) -> int | None:
        """Become the supervisor: this process is replaced, so that Django's memory is free again."""
        flags = ["--port", str(options["port"]), "--workers", str(options["workers"])]
        flags += [f"--{name}" for name in ("no-beat", "no-demo") if options[name.replace("-", "_")]]
        os.environ["FLOWBUILDER_DATA_DIR"] = str(settings.DATA_DIR)
        os.chdir(settings.BASE_DIR)
        sys.stdout.flush()
        os.execv(sys.executable, [sys.executable, "-m", "flowbuilder.supervisor", *flags])
