"""Measure the engine and the recordings.

./flow bench engine [--database sqlite|postgres|both] [--json] [--repeat N] [--workload W1]
./flow bench recording [--database sqlite|postgres|both] [--json] [--repeat N] [--events N]
"""

from __future__ import annotations

import argparse
import sys

from tests.benchmarks import engine, recording


def main() -> int:
    """Run the chosen benchmark."""
    parser = argparse.ArgumentParser(
        prog="./flow bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("engine", help="the engine beside raw Celery chords")
    command.add_argument("--json", action="store_true", help="JSON on standard output")
    command.add_argument("--repeat", type=int, default=7, metavar="N", help="runs of each side (default 7, at least 5)")
    command.add_argument("--workload", action="append", choices=list(engine.WORKLOADS), help="only this one")
    command.add_argument("--database", choices=("sqlite", "postgres", "both"), default="sqlite", help="default sqlite")
    command.set_defaults(run=engine.run)
    command = commands.add_parser("recording", help="recording on beside off, sizes, and reading")
    command.add_argument("--json", action="store_true", help="JSON on standard output")
    command.add_argument(
        "--repeat", type=int, default=60, metavar="N", help="runs of each mode (default 60, at least 6)"
    )
    command.add_argument("--events", type=int, default=1_000_000, metavar="N", help="largest recording")
    command.add_argument("--database", choices=("sqlite", "postgres", "both"), default="sqlite", help="default sqlite")
    command.set_defaults(run=recording.run)
    args = parser.parse_args()
    return int(args.run(args))


if __name__ == "__main__":
    sys.exit(main())
