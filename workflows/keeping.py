"""What settings say about recordings: which are kept when their run has ended, and for how long.

    {"recording": "failed,sample:0.1,long:60", "retention": {"max_age_days": 7, "max_count": 1000},
     "record_inputs": false, "record_outputs": true}

The same text is ``FLOWBUILDER_RECORDING`` and the same object ``FLOWBUILDER_RETENTION``, for workflows that
do not say it themselves.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

FORMS: Final = "all, off, manual, or some of failed, sample:SHARE and long:SECONDS with commas between"
LONGEST: Final = 1_000_000_000


def recording_rules(text: object) -> dict[str, Any]:
    """Return the fields of ``recordings.RecordingConfig`` that ``text`` asks for.

    Raises:
        ValueError: it cannot be read; the message goes after the name of the setting.
    """
    if not isinstance(text, str):
        raise ValueError(f'must be a text like "failed,sample:0.1", not {text!r:.60}')
    words = [word.strip() for word in text.lower().split(",")]
    if words == ["all"]:
        return {"enabled": True, "record_on_success": True, "record_on_failure": True}
    if words in (["off"], ["manual"]):
        return {"enabled": False}
    rules: dict[str, Any] = {"enabled": True, "record_on_success": False, "record_on_failure": False}
    for word in words:
        name, _, number = word.partition(":")
        if word == "failed":
            rules["record_on_failure"] = True
        elif name == "sample":
            rules["sampling_rate"] = _number(word, number, 1)
        elif name == "long":
            rules["record_longer_than"] = _number(word, number, LONGEST)
        else:
            raise ValueError(f'has "{word:.60}", which is none of {FORMS}')
    return rules


def recording_problem(value: object) -> str:
    """Return what is wrong with a ``recording`` setting, or an empty text."""
    try:
        recording_rules(value)
    except ValueError as error:
        return str(error)
    return ""


def switch_problem(value: object) -> str:
    """Return what is wrong with ``record_inputs`` or ``record_outputs``, or an empty text."""
    if isinstance(value, bool):
        return ""
    return f"must be true or false, not {value!r:.60}; false keeps the values out of recordings"


def retention_problem(value: object) -> str:
    """Return what is wrong with a ``retention`` setting, or an empty text."""
    if not isinstance(value, Mapping):
        return f'must be an object like {{"max_age_days": 7}}, not {value!r:.60}'
    for key, item in value.items():
        if key in ("max_age_days", "max_age_days_failed", "max_size_gb", "max_count"):
            number = isinstance(item, int | float) and not isinstance(item, bool) and math.isfinite(item)
            if item is not None and (not number or item < 0 or (key == "max_count" and item != int(item))):
                return f"{key} must be a number from 0, or null for no limit, not {item!r:.60}"
        elif key == "keep_failed":
            if not isinstance(item, bool):
                return f"{key} must be true or false, not {item!r:.60}"
        elif key == "tags_to_keep":
            if not isinstance(item, list) or not all(isinstance(tag, str) for tag in item):
                return f"{key} must be a list of texts, not {item!r:.60}"
        else:
            return (
                f'has "{key!s:.60}", which is none of max_age_days, max_age_days_failed, max_count, max_size_gb,'
                " keep_failed, tags_to_keep"
            )
    return ""


def _number(word: str, text: str, most: float) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 <= number <= most:
        raise ValueError(f'has "{word:.60}"; its number goes from 0 to {most:,}')
    return number
