"""The installation's keys: generated once into ``secrets.json`` of the data directory, mode 0600."""

from __future__ import annotations

import json
import os
import secrets
import tempfile
from pathlib import Path
from typing import TypedDict

from cryptography.fernet import Fernet
from django.core.exceptions import ImproperlyConfigured

from flowbuilder.variables import directory, unwritable


class Secrets(TypedDict):
    """``credential_keys`` are Fernet keys; the first one encrypts, all decrypt."""

    secret_key: str
    credential_keys: list[str]


def load_secrets(data_dir: Path) -> Secrets:
    """Return the keys of the installation in ``data_dir``, making them at the first call.

    Raises:
        ImproperlyConfigured: the file exists but cannot be read; it is never replaced silently.
    """
    path = data_dir / "secrets.json"
    if not path.exists():
        _create(path)
    try:
        data = json.loads(path.read_text())
        return Secrets(secret_key=data["secret_key"], credential_keys=list(data["credential_keys"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ImproperlyConfigured(
            f"{path} cannot be read ({error}). It holds the keys of all stored credentials: restore it from a "
            "backup, or set FLOWBUILDER_SECRET_KEY and FLOWBUILDER_CREDENTIAL_KEYS and remove the file."
        ) from error


def _create(path: Path) -> None:
    """Write new keys; of several processes that start at once exactly one wins, by ``link``."""
    directory(path.parent)
    content = {"secret_key": secrets.token_urlsafe(50), "credential_keys": [Fernet.generate_key().decode()]}
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".secrets-")
    except OSError as error:
        raise unwritable(path.parent, error) from error
    with os.fdopen(handle, "w") as file:
        json.dump(content, file)
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(temporary, path)
    except FileExistsError:
        pass
    finally:
        os.unlink(temporary)
