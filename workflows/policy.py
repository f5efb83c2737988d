"""What the settings of one workflow say about its starts, limits and priority, and about its recordings.

    {"concurrency": 2, "overlap": "queue",
     "concurrency_key": "{{ input.customer }}", "key_concurrency": 1,
     "rate": {"count": 10, "per_s": 60}, "priority": "high"}

``problems`` is for whoever saves settings and names everything that is wrong; ``start_policy`` is for whoever
starts an execution and leaves out what it cannot read, so that a slip in the settings never stops a start.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from workflows.definition import RECORD_SWITCHES
from workflows.errors import DefinitionError, TemplateError
from workflows.keeping import recording_problem, retention_problem, switch_problem
from workflows.strict import refuse_nul
from workflows.templates import Expression, Scope, as_text, parse, render_text

QUEUE: Final = "queue"
BUFFER_ONE: Final = "buffer_one"
SKIP: Final = "skip"
CANCEL_OTHER: Final = "cancel_other"
ALLOW_ALL: Final = "allow_all"
OVERLAPS: Final = (QUEUE, BUFFER_ONE, SKIP, CANCEL_OTHER, ALLOW_ALL)
"""What becomes of a start while the workflow is at its limit."""

PRIORITIES: Final = {"high": 0, "normal": 5, "low": 9}
"""Word -> number; the smaller number goes first."""

PAUSE_AFTER_FAILURES: Final = "pause_after_failures"
MOST_FAILURES: Final = 100

RESTART_BROWSER_SEGMENT: Final = "restart_browser_segment"
MOST_RESTARTS: Final = 10

MOST: Final = 1_000_000
LONGEST_RATE_S: Final = 86_400
KEY_CHARACTERS: Final = 200
TAG_CHARACTERS: Final = 100


@dataclass(frozen=True, slots=True)
class StartPolicy:
    """The limits of one workflow; None means that there is none. ``rate`` is (count, seconds)."""

    concurrency: int | None = None
    overlap: str = QUEUE
    key: str = ""
    key_concurrency: int | None = None
    rate: tuple[int, float] | None = None
    priority: int = PRIORITIES["normal"]

    @property
    def limited(self) -> bool:
        """Return whether a start may have to wait for others of its workflow."""
        return self.concurrency is not None or self.key_concurrency is not None or self.rate is not None

    @property
    def kinds(self) -> int:
        """Return how many different limits there are."""
        return sum(limit is not None for limit in (self.concurrency, self.key_concurrency, self.rate))

    def describe(self, kind: str = "") -> str:
        """Return the limits as people say them; with ``kind`` (concurrency, key, rate) only that one."""
        words = {}
        if self.concurrency is not None:
            words["concurrency"] = f"concurrency limit {self.concurrency}"
        if self.key_concurrency is not None:
            words["key"] = f"limit {self.key_concurrency} per {self.key}"
        if self.rate is not None:
            words["rate"] = f"rate limit {self.rate[0]} per {self.rate[1]:g} s"
        return words.get(kind) or " and ".join(words.values()) or "a limit that is gone now"

    def key_of(self, payload: Any) -> str:
        """Return the key of a start with this input; empty when it names nothing, and then no limit per key applies."""
        if not self.key:
            return ""
        try:
            text = as_text(render_text(self.key, Scope(input=payload)))
        except TemplateError:
            return ""
        text = text.replace("\0", "").encode("utf-8", "replace").decode()
        if len(text) <= KEY_CHARACTERS:
            return text
        return f"{text[:135]}…{hashlib.sha256(text.encode()).hexdigest()}"


NO_POLICY: Final = StartPolicy()


def start_policy(settings: Any) -> StartPolicy:
    """Return the policy that ``settings`` describe; what cannot be read is left out.

    A key without ``key_concurrency`` means one at a time, and so does an ``overlap`` without any limit.
    """
    if not isinstance(settings, Mapping) or not settings.keys() & _CHECKS.keys():
        return NO_POLICY
    good = {key: settings[key] for key, check in _CHECKS.items() if key in settings and not check(settings[key])}
    overlap = good.get("overlap", QUEUE)
    key = good.get("concurrency_key", "")
    limit, per_key = good.get("concurrency"), good.get("key_concurrency", 1) if key else None
    if overlap == ALLOW_ALL:
        limit = per_key = None
    elif "overlap" in good and limit is None and per_key is None:
        limit = 1
    rate = good.get("rate")
    return StartPolicy(
        concurrency=limit,
        overlap=overlap,
        key=key,
        key_concurrency=per_key,
        rate=(rate["count"], float(rate["per_s"])) if rate else None,
        priority=PRIORITIES[good.get("priority", "normal")],
    )


def problems(settings: Any) -> Iterator[tuple[str, str]]:
    """Yield (key, what is wrong) for every setting of this module that cannot be what it is."""
    if settings is None:
        return
    if not isinstance(settings, Mapping):
        yield "", 'the settings are an object, for example {"concurrency": 2}'
        return
    for key, check in (_CHECKS | _KEEPING).items():
        problem = check(settings[key]) if key in settings else ""
        if problem:
            yield key, f"{key} {problem}"
    if "key_concurrency" in settings and not settings.get("concurrency_key"):
        yield "key_concurrency", 'key_concurrency needs a concurrency_key, for example "{{ input.customer }}"'


def refuse(settings: Any) -> None:
    """Check that ``settings`` of a workflow can be stored and are what they can be.

    Raises:
        DefinitionError: its message has all that is wrong.
    """
    refuse_nul(settings, "settings")
    if wrong := [problem for _, problem in problems(settings)]:
        raise DefinitionError("; ".join(wrong), "settings")


def known() -> frozenset[str]:
    """Return the names of all settings that have an effect."""
    return frozenset(_CHECKS) | frozenset(_KEEPING)


def _deadline_problem(value: Any) -> str:
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return "" if number and value > 0 else f"must be a number of seconds above 0, not {value!r:.60}"


def _tags_problem(value: Any) -> str:
    good = isinstance(value, list) and all(isinstance(tag, str) and 0 < len(tag) <= TAG_CHARACTERS for tag in value)
    return "" if good else f'must be a list of texts of at most {TAG_CHARACTERS} characters, such as ["shop"]'


def _count_problem(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MOST:
        return f"must be a whole number from 1 to {MOST:,}, not {value!r:.60}"
    return ""


def pause_problem(value: Any) -> str:
    """Return what is wrong with a number of failures after which a workflow is paused; empty if nothing is."""
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MOST_FAILURES:
        return f"must be a whole number from 1 to {MOST_FAILURES}, not {value!r:.60}"
    return ""


def restart_problem(value: Any) -> str:
    """Return what is wrong with how often a lost page may be opened again; empty if nothing is."""
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MOST_RESTARTS:
        return f"must be a whole number from 1 to {MOST_RESTARTS}, not {value!r:.60}"
    return ""


def _overlap_problem(value: Any) -> str:
    return "" if value in OVERLAPS else f"must be one of {', '.join(OVERLAPS)}; not {value!r:.60}"


def _priority_problem(value: Any) -> str:
    known = isinstance(value, str) and value in PRIORITIES
    return "" if known else f"must be one of {', '.join(PRIORITIES)}; not {value!r:.60}"


def _rate_problem(value: Any) -> str:
    if not isinstance(value, Mapping) or set(value) != {"count", "per_s"}:
        return f'must be like {{"count": 10, "per_s": 60}}, not {value!r:.60}'
    if problem := _count_problem(value["count"]):
        return f"count {problem}"
    seconds = value["per_s"]
    number = isinstance(seconds, int | float) and not isinstance(seconds, bool) and math.isfinite(seconds)
    if not number or not 0 < seconds <= LONGEST_RATE_S:
        return f"per_s must be a number of seconds above 0, at most {LONGEST_RATE_S:,}, not {seconds!r:.60}"
    return ""


def _key_problem(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        return f'must be a text like "{{{{ input.customer }}}}", not {value!r:.60}'
    try:
        parts = parse(value).parts
    except TemplateError as error:
        return f"cannot be read: {error}"
    for part in parts:
        reference = part.reference if isinstance(part, Expression) else None
        if reference is not None and reference.kind != "input":
            return f"may only name the input, and {reference} is known only while the workflow runs"
    return ""


_CHECKS: Final[dict[str, Callable[[Any], str]]] = {
    "concurrency": _count_problem,
    "overlap": _overlap_problem,
    "concurrency_key": _key_problem,
    "key_concurrency": _count_problem,
    "rate": _rate_problem,
    "priority": _priority_problem,
}
_KEEPING: Final[dict[str, Callable[[Any], str]]] = {
    "recording": recording_problem,
    "retention": retention_problem,
    PAUSE_AFTER_FAILURES: pause_problem,
    RESTART_BROWSER_SEGMENT: restart_problem,
    "deadline_s": _deadline_problem,
    "tags": _tags_problem,
    **dict.fromkeys(RECORD_SWITCHES, switch_problem),
}
