"""Environment variables as values; one that cannot be read stops the start and is named. An empty one counts as not set."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Collection
from email.headerregistry import Address
from ipaddress import ip_network
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import parse_qs, unquote, urlsplit

import environ
from cryptography.fernet import Fernet
from django.core.exceptions import ImproperlyConfigured

from flowbuilder.rates import read_rate

TRUE, FALSE = ("true", "on", "yes", "1"), ("false", "off", "no", "0")


def text(name: str, default: str = "") -> str:
    """Return the variable without spaces around it."""
    return os.environ.get(name, "").strip() or default


def listed(name: str, default: Collection[str] = ()) -> list[str]:
    """Return what stands between commas."""
    return [part.strip() for part in text(name).split(",") if part.strip()] or list(default)


def networks(name: str) -> list[str]:
    """Return addresses and networks that stand between commas."""
    found = listed(name)
    for one in found:
        try:
            ip_network(one)
        except ValueError:
            _refuse(name, f'must be addresses or networks such as 10.0.0.5,192.168.0.0/24; "{one}" is none')
    return found


def flag(name: str, *, default: bool = False) -> bool:
    """Return whether it is on, in any of the usual words."""
    value = text(name).lower()
    if value not in ("", *TRUE, *FALSE):
        _refuse(name, "must be on or off")
    return value in TRUE if value else default


def whole(name: str, default: int, *, least: int = 0, most: int | None = None) -> int:
    """Return a whole number from ``least`` to ``most``."""
    value = number(name, default, least=least, most=most)
    if value != int(value):
        _refuse(name, "must be a whole number")
    return int(value)


def number(name: str, default: float, *, least: float = 0, most: float | None = None) -> float:
    """Return a number from ``least`` to ``most``."""
    wanted = f"must be a number of at least {least}" + ("" if most is None else f" and at most {most}")
    try:
        value = float(text(name) or default)
    except ValueError:
        _refuse(name, wanted)
    if not math.isfinite(value) or value < least or (most is not None and value > most):
        _refuse(name, wanted)
    return value


def choice(name: str, default: str, options: Collection[str]) -> str:
    """Return one of ``options``, which are in capitals; small letters are read, too."""
    value = text(name, default).upper()
    if value not in options:
        _refuse(name, f"must be one of {', '.join(options)}")
    return value


def rate(name: str, default: str) -> str:
    """Return a rate such as ``600/min``, or ``off``."""
    value = text(name, default).lower()
    try:
        read_rate(value)
    except ValueError as error:
        _refuse(name, str(error))
    return value


def address(name: str, default: str) -> str:
    """Return an address of web pages without a slash at its end."""
    value = text(name, default).rstrip("/")
    if not value.startswith(("http://", "https://")):
        _refuse(name, "must begin with http:// or https://")
    return value


def endpoint(name: str, default: str) -> str:
    """Return the address of a browser that is driven by CDP; it is never shown, since it may hold a key."""
    value = text(name, default)
    try:
        parts = urlsplit(value)
        if parts.scheme in ("ws", "wss", "http", "https") and parts.hostname and parts.port != 0:
            return value
    except ValueError:
        pass
    raise ImproperlyConfigured(f"{name} cannot be read; it looks like wss://browser.example.com:9222")


def json_object(name: str) -> dict[str, object]:
    """Return a JSON object, empty when the variable is."""
    try:
        value = json.loads(text(name, "{}"))
    except ValueError as error:
        raise ImproperlyConfigured(f"{name} must be a JSON object: {error}") from error
    if not isinstance(value, dict):
        _refuse(name, "must be a JSON object")
    return value


def amounts(name: str) -> dict[str, int]:
    """Return whole numbers of at least 0 by name, from a JSON object or from ``name=number`` between commas."""
    value = text(name)
    given: dict[str, object] = (
        json_object(name)
        if value.startswith("{")
        else {key.strip(): number.strip() for key, _, number in (part.partition("=") for part in listed(name))}
    )
    found: dict[str, int] = {}
    for key, number in given.items():
        if isinstance(number, bool) or not isinstance(number, int | str) or not str(number).isdecimal():
            raise ImproperlyConfigured(
                f'{name} must give "{key}" a whole number of at least 0, not {number!r}; it looks like get_html=3,delay=0'
            )
        found[key] = int(number)
    return found


def amount(name: str) -> int | None:
    """Return a whole number of at least 0, or None when the variable is empty."""
    return whole(name, 0) if text(name) else None


def limit(name: str) -> int | None:
    """Return a whole number of at least 1, or None (no limit) when the variable is empty."""
    return whole(name, 1, least=1) if text(name) else None


def database(name: str, default: str) -> dict[str, Any]:
    """Return Django's description of a PostgreSQL or SQLite database; its password is never shown."""
    url = text(name, default)
    try:
        if url.partition("://")[0] in ("postgres", "postgresql", "sqlite"):
            return dict(environ.Env.db_url_config(url))
    except (ImproperlyConfigured, ValueError):
        pass
    raise ImproperlyConfigured(f"{name} cannot be read; it looks like postgres://user:password@host:5432/name")


def mail_server(name: str) -> dict[str, Any] | None:
    """Return the fields of ``executions.mail.MailServer`` in an address; None when the variable is empty."""
    if not text(name):
        return None
    ports = {"smtp": 587, "smtps": 465}
    try:
        url = urlsplit(text(name))
        security = parse_qs(url.query).get("security", ["ssl" if url.scheme == "smtps" else "starttls"])[0]
        if url.scheme in ports and url.hostname and security in ("ssl", "starttls", "none"):
            return {
                "host": url.hostname, "port": url.port or ports[url.scheme], "security": security,
                "username": unquote(url.username or ""), "password": unquote(url.password or ""),
            }  # fmt: skip
    except ValueError:
        pass
    raise ImproperlyConfigured(
        f"{name} cannot be read; it looks like smtp://user:password@smtp.example.com:587, with smtps:// for SSL at once"
        " and ?security=none for a server without encryption"
    )


def mail_address(name: str, default: str) -> str:
    """Return a plain mail address."""
    value = text(name, default)
    try:
        parsed = Address(addr_spec=value)
    except (ValueError, IndexError):
        parsed = Address()
    if not (parsed.username and parsed.domain and value.isascii()):
        _refuse(name, "must be an address such as flow@example.com")
    return value


def keys(name: str, default: Collection[str]) -> list[str]:
    """Return Fernet keys; they are never shown."""
    found = listed(name, default)
    for place, key in enumerate(found, 1):
        try:
            Fernet(key)
        except ValueError:
            raise ImproperlyConfigured(
                f"{name}: key {place} is no Fernet key (32 bytes in url-safe base64). Make one: "
                "openssl rand -base64 32 | tr +/ -_"
            ) from None
    return found


def directory(path: Path) -> Path:
    """Return ``path``, made when it is not there."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(path, error) from error
    return path


def unwritable(path: Path, error: OSError) -> ImproperlyConfigured:
    """Return what to raise when nothing can be written to a directory."""
    reason = error.strerror or str(error)
    return ImproperlyConfigured(
        f"{path} cannot be written ({reason}); mend that, or set FLOWBUILDER_DATA_DIR to another directory"
    )


def _refuse(name: str, wanted: str) -> NoReturn:
    raise ImproperlyConfigured(f'{name} {wanted}, not "{text(name)}"')
