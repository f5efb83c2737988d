"""Make an installation ready: tables, the first user, the demo content. Run by the supervisor as a process.

It prints one line of JSON when that is done, then reads one line with the pids of workers and beat and ends
with status 0 as soon as each of them holds a lease, so that Django is loaded only once for both.
"""

from __future__ import annotations

import argparse
import gc
import json
import secrets
import sys
import time
from collections.abc import Collection
from typing import Any

import django

LEASE_SECONDS = 80
DEMO, DEMO_WITHOUT_BROWSER = "demo-shop", "demo-shop-http"
USER, READER, CREDENTIAL = "admin", "demo-reader", "admin-login"


def prepare_database() -> None:
    """Bring the tables up to date."""
    from django.core.management import call_command

    usual = gc.get_threshold()
    gc.set_threshold(
        100_000, 20, 20
    )  # Django makes every model anew at nearly every step; looking for garbage costs a quarter
    try:
        call_command("migrate", verbosity=0, interactive=False)
    finally:
        gc.set_threshold(*usual)


def first_user(*, private: bool) -> tuple[Any, str]:
    """Return a superuser and the password that was made for them just now, empty if they had one.

    ``private`` makes no password, because nobody would see it; the next start that somebody sees does.
    """
    from django.contrib.auth import get_user_model

    users: Any = get_user_model()._default_manager
    superusers = list(users.filter(is_superuser=True, is_active=True).order_by("pk"))
    user = superusers[0] if superusers else users.create_superuser(USER, password=None)
    if private or any(one.has_usable_password() for one in superusers):
        return user, ""
    password = secrets.token_urlsafe(12)
    user.set_password(password)
    user.save(update_fields=["password"])
    return user, password


def add_examples(owner: Any, names: Collection[str] | None = None) -> None:
    """Give ``owner`` the example workflows (all, or those in ``names``) that they do not have yet.

    One that they have is left as it is, edited or not.
    """
    from workflows.models import Workflow
    from workflows.transfer import examples, import_definition

    for name, definition in examples().items():
        if names is not None and name not in names:
            continue
        if not Workflow.objects.filter(owner=owner, name=definition["name"]).exists():
            import_definition(owner, definition, message="example")


def add_reader(owner: Any) -> None:
    """Give ``owner`` the credential with which an example logs in to this admin.

    It belongs to a user who may only look at the periodic tasks; their password is made here and is
    nowhere but in the credential.
    """
    from django.contrib.auth import get_user_model
    from django.contrib.auth.models import Permission

    from workflows import credentials
    from workflows.models import Credential

    if Credential.objects.filter(name=CREDENTIAL).exists():
        return
    users: Any = get_user_model()._default_manager
    reader, _new = users.get_or_create(username=READER, defaults={"is_staff": True})
    reader.user_permissions.add(
        Permission.objects.get(codename="view_periodictask", content_type__app_label="django_celery_beat")
    )
    password = secrets.token_urlsafe(24)
    reader.set_password(password)
    reader.save(update_fields=["password"])
    credentials.save(owner, CREDENTIAL, "password", {"username": READER, "password": password})


def check_redis() -> None:
    """Raise ConnectionError when the Redis of the settings does not answer within ten seconds."""
    from django.conf import settings
    from redis import Redis
    from redis.exceptions import BusyLoadingError, RedisError

    end = time.monotonic() + 10
    while True:
        try:
            with Redis.from_url(settings.REDIS_URL, socket_connect_timeout=5, socket_timeout=5) as client:
                client.ping()
            return
        except BusyLoadingError as error:  # it reads its file; that ends
            reason: Exception = error
        except (RedisError, ValueError, OSError) as error:
            reason = error
            end = min(end, time.monotonic() + 2)
        if time.monotonic() > end:
            raise ConnectionError(f"Redis does not answer ({reason}); check REDIS_URL")
        time.sleep(0.1)


def wait_for_leases(pids: list[int]) -> bool:
    """Return True when each process holds a lease, False when one does not within the time."""
    from executions.models import WorkerLease

    end = time.monotonic() + LEASE_SECONDS
    since = time.time_ns() // 1000 - 30_000_000
    while True:
        held = set(WorkerLease.objects.filter(pid__in=pids, beat_at__gte=since).values_list("pid", flat=True))
        if held.issuperset(pids):
            return True
        if time.monotonic() > end:
            missing = ", ".join(str(pid) for pid in pids if pid not in held)
            print(f"process {missing} did not begin to work within {LEASE_SECONDS} s", file=sys.stderr)
            return False
        time.sleep(0.05)


def main(arguments: list[str]) -> int:
    """Prepare, answer, wait; return the exit code: 3 when database or Redis cannot be reached."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--demo", action="store_true")
    parser.add_argument("--private", action="store_true")
    options = parser.parse_args(arguments)
    django.setup()
    from django.conf import settings
    from django.db import OperationalError

    from executions.browser import find_chromium

    try:
        prepare_database()
        check_redis()
    except OperationalError as error:
        reason = " ".join(str(error).split())
        print(f"the database cannot be used ({reason}); check DATABASE_URL and the disk", file=sys.stderr)
        return 3
    except ConnectionError as error:
        print(error, file=sys.stderr)
        return 3
    user, password = first_user(private=options.private)
    if options.demo:
        add_reader(user)
        add_examples(user)
    chromium = find_chromium(settings.CHROMIUM)
    print(json.dumps({"user": user.get_username(), "password": password, "chromium": chromium}), flush=True)
    pids = sys.stdin.readline()
    return 0 if not pids or wait_for_leases(json.loads(pids)) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
