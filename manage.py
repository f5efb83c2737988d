#!/usr/bin/env python
"""Every command of the product: ``./flow X`` is ``manage.py X``."""

from __future__ import annotations

import os
import sys
import textwrap

from django.core.exceptions import ImproperlyConfigured
from django.core.management import ManagementUtility, get_commands, load_command_class
from django.core.management.base import BaseCommand

PRODUCT = "flowbuilder"
"""The app whose commands are the product's own."""
USAGE = 2
"""Exit code of a command that does not exist, as of every other wrong usage."""
MISSING = 3
"""Exit code when a setting, or something else that is needed, is not right; the message says which."""


class Flow(ManagementUtility):
    """Django's commands under the name that people type, the product's own first."""

    def __init__(self, argv: list[str]) -> None:
        super().__init__(argv)
        self.prog_name = "./flow"

    def main_help_text(self, commands_only: bool = False) -> str:
        """Return what ``./flow help`` prints: each command of the product in a line, the names of the others."""
        if commands_only:
            return super().main_help_text(commands_only)
        apps = get_commands()
        own = sorted(name for name, app in apps.items() if app == PRODUCT)
        lines = ["Commands of Flow Builder; each has --help:", ""]
        for name in own:
            text = load_command_class(PRODUCT, name).help.partition(". ")[0].rstrip(".")
            lines.append(textwrap.fill(text, 100, initial_indent=f"  {name:<12}", subsequent_indent=" " * 14))
        lines += ["  test, check, fix, bench   for people who change the product", ""]
        lines += ["Django's commands, for those who know them:", ""]
        others = ", ".join(sorted(set(apps) - set(own) - {"test", "check"}))
        return "\n".join([*lines, textwrap.fill(others, 100, initial_indent="  ", subsequent_indent="  ")])

    def fetch_command(self, subcommand: str) -> BaseCommand:
        """Return the command; a name that does not exist is wrong usage."""
        try:
            return super().fetch_command(subcommand)
        except SystemExit:
            sys.exit(USAGE)


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "flowbuilder.settings")
    try:
        Flow(sys.argv).execute()
    except ImproperlyConfigured as error:
        sys.stderr.write(f"flow: {error}\n")
        sys.exit(MISSING)
