"""``./flow test --chaos SECONDS [--seed N] [--database postgres] [--json FILE]``: kill anything, then check everything.

Exit code 0 when every invariant held, 1 when one did not.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import sys
import tempfile
from pathlib import Path


def main() -> int:
    """Run the harness with a database, a Redis and a data directory of its own."""
    parser = argparse.ArgumentParser(prog="./flow test --chaos", description=__doc__)
    parser.add_argument("seconds", type=float, help="how long faults are injected")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6), help="draws the same schedule again")
    parser.add_argument("--database", choices=("sqlite", "postgres"), default="sqlite")
    parser.add_argument("--no-browser", action="store_true", help="without browser workflows")
    parser.add_argument("--keep", action="store_true", help="keep logs and ledger also when nothing was found")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the report as JSON")
    args = parser.parse_args()
    os.environ["FLOWBUILDER_TEST_DATABASE"] = "postgres" if args.database == "postgres" else ""
    os.environ["DJANGO_SETTINGS_MODULE"] = "flowbuilder.settings"

    import django

    import tests.environment  # noqa: F401 - its Redis and its database are those of this run

    os.environ["FLOWBUILDER_CODE_NODES"] = "on"
    os.environ["FLOWBUILDER_LOG_LEVEL"] = "CRITICAL"  # of this process, whose own calls meet every outage
    django.setup()
    from django.conf import settings
    from django.contrib.auth import get_user_model
    from django.core.management import call_command
    from django.db import connection

    from executions.browser import find_chromium
    from tests.chaos.harness import Chaos

    call_command("migrate", verbosity=0)
    owner = get_user_model().objects.create_superuser("chaos", "", None)
    logs = Path(tempfile.mkdtemp(prefix="fb-chaos-"))
    print(
        f"chaos: seed {args.seed}, {args.seconds:.0f} s on {args.database}; logs in {logs}", file=sys.stderr, flush=True
    )
    browser = not args.no_browser and find_chromium(settings.CHROMIUM) is not None
    report = Chaos(
        args.seed, args.seconds, owner, settings.DATA_DIR, logs, browser=browser,
        say=lambda text: print(f"chaos: {text}", file=sys.stderr),
    ).run()  # fmt: skip
    if args.json:
        args.json.write_text(json.dumps(report.as_dict(), indent=2))
    print(report.text())
    if (args.keep or not report.ok) and connection.vendor == "sqlite":
        with connection.cursor() as cursor:  # a copy of the file would lack what is still in its log
            cursor.execute("VACUUM INTO %s", [str(logs / "database.sqlite3")])
    if report.ok and not args.keep:
        shutil.rmtree(logs)
    return 0 if report.ok else 1


if __name__ == "__main__":
    sys.exit(main())
