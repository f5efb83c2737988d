"""Files of the pages: served as they are now, also when an update changes them under a running server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from django.test import Client

pytestmark = pytest.mark.django_db


def test_a_file_that_changes_is_served_whole(client: Client, settings: Any) -> None:
    file = Path(settings.STATIC_ROOT) / "changing.txt"
    try:
        for text in ("short", "now much longer than it was before"):
            file.write_text(text)
            response = client.get("/static/changing.txt")
            assert response.headers["Content-Length"] == str(len(text))
            assert b"".join(response.streaming_content) == text.encode()  # type: ignore[attr-defined]
            response.close()
    finally:
        file.unlink()
