"""What every ``./flow`` product verb shares: subcommands, the acting user, output, exit codes.

Data goes to stdout and messages to stderr. Exit codes: 0 ok, 1 failed, 2 usage, 3 missing prerequisite.
"""

from __future__ import annotations

import json
import os
import sys
from argparse import RawDescriptionHelpFormatter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import cached_property
from typing import Any, NoReturn

from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand, CommandError, CommandParser, DjangoHelpFormatter
from django.core.serializers.json import DjangoJSONEncoder
from django.db.utils import OperationalError, ProgrammingError
from rich.console import Console

from executions.errors import ExecutionError
from workflows import audit
from workflows.errors import WorkflowError

OK, FAILED, USAGE, PREREQUISITE = 0, 1, 2, 3

Handler = Callable[[dict[str, Any]], "int | None"]

WIDE = 4096
"""Columns when the output is not a terminal, so that nothing is cut or wrapped for a script."""


class Output(Console):
    """A console that leaves the end of its reader to the command."""

    def on_broken_pipe(self) -> None:
        """Raise, where rich would end the process with exit code 1."""
        raise BrokenPipeError


class Help(DjangoHelpFormatter, RawDescriptionHelpFormatter):
    """Django's order of options, with the examples kept as written."""


class ProductCommand(BaseCommand):
    """A ``./flow`` verb, with subcommands or alone.

    With subcommands: override ``add_verbs`` and call ``self.verb(...)`` for each; without one, the help is
    printed, as ``./flow`` alone prints its own. Alone: override
    ``add_options`` and ``run``. A handler gets the options as a dict and returns an exit code, None for 0.
    """

    examples: Sequence[str] = ()
    """Shown by ``--help``: whole lines, such as ``./flow workflows list --json``."""
    user_errors: tuple[type[Exception], ...] = (WorkflowError, ExecutionError)
    """Errors whose message is meant for the user: printed to stderr, exit code 1."""

    requires_system_checks: tuple[str, ...] = ()
    suppressed_base_arguments = {
        "--version", "-v", "--verbosity", "--settings", "--pythonpath", "--traceback", "--no-color", "--force-color",
        "--skip-checks",
    }  # fmt: skip

    # ------------------------------------------------------------------ arguments

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        """Return the parser, named as the user types it."""
        self._name = subcommand
        kwargs.setdefault("formatter_class", Help)
        kwargs.setdefault("epilog", _examples(self.examples))
        return super().create_parser(prog_name, subcommand, **kwargs)

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the subcommands, or the options of a command without any."""
        parser.prog = f"./flow {self._name}"
        self._subparsers: Any = None
        self._parser = parser
        self.add_verbs()
        if self._subparsers is None:
            self.add_options(parser)

    def add_verbs(self) -> None:
        """Call ``self.verb`` for each subcommand."""

    def add_options(self, parser: CommandParser) -> None:
        """Add the options of a command without subcommands."""

    def verb(
        self,
        name: str,
        handler: Handler,
        help: str,
        *,
        examples: Sequence[str] = (),
        json: bool = True,
        user: bool = False,
    ) -> CommandParser:
        """Add a subcommand and return its parser; ``json`` and ``user`` add ``--json`` and ``--user``."""
        if self._subparsers is None:
            self._subparsers = self._parser.add_subparsers(dest="verb", metavar="VERB")
        parser: CommandParser = self._subparsers.add_parser(
            name, help=help, description=help, epilog=_examples(examples), formatter_class=Help
        )
        parser.set_defaults(handler=handler)
        if json:
            self.add_json(parser)
        if user:
            self.add_user(parser)
        return parser

    def add_json(self, parser: CommandParser) -> None:
        """Add ``--json``."""
        parser.add_argument("--json", action="store_true", help="print JSON for scripts instead of a table")

    def add_user(self, parser: CommandParser) -> None:
        """Add ``--user``."""
        parser.add_argument("--user", metavar="NAME", help="act as this user (default: the first superuser)")

    # ------------------------------------------------------------------ running

    def handle(self, *args: Any, **options: Any) -> None:
        """Run the chosen handler; a non-zero return value becomes the exit code."""
        self._json = bool(options.get("json"))
        handler: Handler = options.get("handler") or self.run
        try:
            with ExitStack() as self._doors:
                self._doors.enter_context(audit.acting(None, audit.Door.COMMAND))
                code = handler(options)
            self.stdout.flush()
        except self.user_errors as error:
            raise CommandError(str(error), returncode=FAILED) from error
        except (OperationalError, ProgrammingError) as error:
            if "no such table" in str(error) or "does not exist" in str(error):
                raise CommandError(
                    f"the database is not set up ({error}); run ./flow migrate or ./flow up", returncode=PREREQUISITE
                ) from error
            if isinstance(error, ProgrammingError):
                raise
            raise CommandError(f"the database cannot be reached: {error}", returncode=PREREQUISITE) from error
        if code:
            raise SystemExit(code)

    def run(self, options: dict[str, Any]) -> int | None:
        """Do the work of a command without subcommands; for one that has them, print the help."""
        if self._subparsers is not None:
            self._parser.print_help(self.console.file)
            return OK
        raise NotImplementedError(f"{type(self).__module__} defines neither verbs nor run()")

    def execute(self, *args: Any, **options: Any) -> str | None:
        """Run; on the command line an error is one line on stderr and an exit code."""
        if not getattr(self, "_called_from_command_line", False) or options.get("traceback"):
            return super().execute(*args, **options)
        try:
            return super().execute(*args, **options)
        except CommandError as error:
            self.stderr.write(f"error: {error}")
            sys.exit(error.returncode)
        except BrokenPipeError:
            # The reader, for example `head`, has seen enough.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(OK)
        except KeyboardInterrupt:
            sys.exit(130)

    # ------------------------------------------------------------------ what handlers use

    def user(self, options: dict[str, Any]) -> Any:
        """Return the acting user, who from now on is noted with what changes: ``--user``, else the first superuser.

        Fails if there is none.
        """
        found = self.find_user(options.get("user"))
        self._doors.enter_context(audit.acting(found, audit.Door.COMMAND))
        return found

    def find_user(self, name: str | None) -> Any:
        """Return the user called ``name``, without a name the first superuser; fails if there is none."""
        users = get_user_model()._default_manager
        if name:
            found = users.filter(**{get_user_model().USERNAME_FIELD: name}).first()
            if found is None:
                self.fail(f'there is no user "{name}"')
        else:
            found = users.filter(is_superuser=True, is_active=True).order_by("pk").first()
            if found is None:
                self.fail("there is no superuser yet; ./flow up makes one, or run ./flow createsuperuser")
        return found

    def emit(self, data: Any, human: Callable[[Console], None] | None = None) -> None:
        """Print ``data`` as JSON with ``--json`` (or without ``human``), else call ``human`` with the console."""
        if self._json or human is None:
            self.stdout.write(json.dumps(data, cls=DjangoJSONEncoder, ensure_ascii=False, indent=2))
        else:
            human(self.console)

    def note(self, message: str) -> None:
        """Print a message for the person to stderr."""
        self.stderr.write(message, style_func=str)

    def fail(self, message: str, code: int = FAILED) -> NoReturn:
        """End with ``message`` on stderr and this exit code."""
        raise CommandError(message, returncode=code)

    @cached_property
    def console(self) -> Console:
        """Return the rich console on stdout: colours only on a terminal and without ``NO_COLOR``."""
        return self._console(self.stdout)

    @cached_property
    def error_console(self) -> Console:
        """Return the rich console on stderr, for progress bars and the like."""
        return self._console(self.stderr)

    def _console(self, wrapper: Any) -> Console:
        out = wrapper._out
        terminal = bool(getattr(out, "isatty", lambda: False)())
        return Output(
            file=out, highlight=False, markup=False, emoji=False, soft_wrap=False, width=None if terminal else WIDE
        )


def _examples(lines: Sequence[str]) -> str | None:
    return "examples:\n" + "\n".join(f"  {line}" for line in lines) if lines else None
