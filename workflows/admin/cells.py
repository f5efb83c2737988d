"""How values are written in lists and pages."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from django.utils import timezone
from django.utils.formats import date_format
from django.utils.html import format_html
from django.utils.safestring import SafeString, mark_safe

from workflows import cron

EMPTY = mark_safe('<span class="adm-muted">–</span>')
"""What a cell without a value shows."""
BLANK = mark_safe("&nbsp;")
"""A cell that is empty because all is well."""


def status_pill(status: str, word: str = "") -> SafeString:
    """Return ``status`` as icon, word and colour."""
    return format_html(
        '<span class="adm-status adm-status-{0}"><svg aria-hidden="true"><use href="#adm-s-{0}"/></svg>{1}</span>',
        status,
        word or status.replace("_", " ").capitalize(),
    )


def moment(when: datetime | None, now: datetime | None = None, zone: str = "UTC") -> SafeString | str:
    """Return ``when`` as people say it ("3 min ago", "in 2 h", "21 Nov, 09:26"); the exact time is its title.

    What is further away than a day is said on a clock in ``zone``. The page adds the reader's own time to the title.
    """
    if when is None:
        return EMPTY
    local, zone = _in_zone(when, zone)
    text = _distance((when - (now or timezone.now())).total_seconds(), local, "" if zone == "UTC" else f" {zone}")
    exact = f"{date_format(local, 'j M Y, H:i:s')} {zone}"
    return format_html('<time datetime="{}" title="{}">{}</time>', when.isoformat(), exact, text)


def due(when: datetime | None, zone: str, now: datetime | None = None) -> SafeString | str:
    """Return when a schedule in ``zone`` fires, as ``moment``; "due now" when that instant has passed."""
    if when is not None and when <= (now or timezone.now()):
        return "due now"
    return moment(when, now, zone)


def on_clock(when: datetime, zone: str, *, named: bool = True) -> SafeString:
    """Return an instant on a clock in ``zone``, which is ``named``; the page adds the reader's own time if it differs."""
    local, zone = _in_zone(when, zone)
    text = f"{date_format(local, 'D j M, H:i')} {zone if named else ''}".strip()
    return format_html('<time datetime="{}" data-zone="{}">{}</time>', when.isoformat(), zone, text)


def _in_zone(when: datetime, zone: str) -> tuple[datetime, str]:
    """Return ``when`` in ``zone`` and what that zone is called; in UTC when no such zone is known any more."""
    try:
        return when.astimezone(cron.zone(zone)), zone
    except ValueError:
        return when.astimezone(UTC), "UTC"


def _distance(seconds: float, local: datetime, zone: str) -> str:
    size = abs(seconds)
    if 0 < seconds < 60:
        return "in less than a minute"
    if size < 45:
        return "just now"
    if size < 86_400:
        text = f"{round(size / 60)} min" if size < 3_570 else f"{round(size / 3_600)} h"
        return f"in {text}" if seconds > 0 else f"{text} ago"
    same_year = local.year == timezone.localtime(timezone.now()).year
    return date_format(local, "j M, H:i" if same_year else "j M Y, H:i") + zone


def duration(milliseconds: int | None) -> str:
    """Return a length of time in the two largest fitting units: "840 ms", "3.2 s", "2 min 5 s", "1 h 3 min".

    It is cut, not rounded, as the live pages do: the same execution took the same time everywhere.
    """
    if milliseconds is None:
        return EMPTY
    if milliseconds < 1_000:
        return f"{milliseconds} ms"
    if milliseconds < 60_000:
        return f"{milliseconds // 100 / 10:.1f} s"
    minutes, seconds = divmod(milliseconds // 1_000, 60)
    hours, minutes = divmod(minutes, 60)
    large, small = (f"{hours} h", f" {minutes} min") if hours else (f"{minutes} min", f" {seconds} s")
    return large + (small if (minutes if hours else seconds) else "")


def json_block(value: Any) -> SafeString:
    """Return ``value`` as readable JSON."""
    return format_html('<pre class="adm-json">{}</pre>', json.dumps(value, indent=2, ensure_ascii=False))


def button(url: str, text: str, *, icon: str = "", post: bool = False, css: str = "small") -> SafeString:
    """Return a link that looks like a button; with ``post`` a button that submits the form around it to ``url``."""
    image = format_html('<svg class="adm-icon" aria-hidden="true"><use href="#adm-{}"/></svg>', icon) if icon else ""
    if post:
        return format_html(
            '<button type="submit" class="button {}" formaction="{}">{}{}</button>', css, url, image, text
        )
    return format_html('<a class="button {}" href="{}">{}{}</a>', css, url, image, text)
