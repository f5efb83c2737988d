#!/usr/bin/env python
"""Every command of the product: ``./flow X`` is ``manage.py X``."""

import os
import sys

from django.core.management import execute_from_command_line

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "flowbuilder.settings")
    execute_from_command_line(sys.argv)
