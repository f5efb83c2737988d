"""Which recordings go, and which stay."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from recordings.errors import RecordingProtected

HOLD_TAG = "legal-hold"
"""A recording with this tag is removed by nobody, until the tag is taken off."""

DAY_SECONDS = 86_400
GIGABYTE = 1 << 30


@dataclass(frozen=True, slots=True)
class RetentionPlan:
    """What a policy decided. ``delete`` holds recording ids, oldest first; ``kept_by_rule`` counts reasons."""

    total: int
    delete: list[str]
    delete_bytes: int
    kept_by_rule: dict[str, int]

    def to_dict(self, deleted: Iterable[str]) -> dict[str, Any]:
        """Return the answer of ``apply_retention_policy``."""
        return {
            "total_recordings": self.total,
            "to_delete": len(self.delete),
            "total_size_bytes": self.delete_bytes,
            "deleted_ids": list(deleted),
            "candidate_ids": list(self.delete),
            "kept_by_rule": dict(self.kept_by_rule),
        }


@dataclass(slots=True)
class RetentionPolicy:
    """Rules in their order: ``legal-hold`` keeps, a protected tag keeps; a failure keeps while ``keep_failed``; then age, count, size.

    ``max_age_days_failed`` ends the protection of failures. Count and size remove the oldest of those that
    nothing protects; protected ones count towards the totals but are never removed by them. A recording
    that never ended is not a failure.
    """

    max_age_days: float | None = None
    max_count: int | None = None
    max_size_gb: float | None = None
    keep_failed: bool = True
    tags_to_keep: list[str] = field(default_factory=list)
    max_age_days_failed: float | None = None

    def __post_init__(self) -> None:
        """Check the rules, as one that is meant differently removes what nobody wanted to lose.

        Raises:
            ValueError: a limit is negative or no number, or the tags are one text.
        """
        for name in ("max_age_days", "max_count", "max_size_gb", "max_age_days_failed"):
            limit = getattr(self, name)
            if limit is not None and (type(limit) not in (int, float) or not limit >= 0):
                raise ValueError(f"{name} is {limit!r}; it must be a number that is not negative, or None")
        tags: Any = self.tags_to_keep
        if isinstance(tags, str):
            raise ValueError(f"give tags_to_keep as a list, not as one text: [{tags!r}]")

    def should_keep(self, metadata: Mapping[str, Any], *, now: float | None = None) -> bool:
        """Return whether one recording stays, by the rules that need no others."""
        return self._rule(metadata, time.time() if now is None else now) != "expired"

    def plan(self, recordings: Iterable[Mapping[str, Any]], *, now: float | None = None) -> RetentionPlan:
        """Return what to delete of ``recordings``, which are metadata dicts in any order."""
        moment = time.time() if now is None else now
        ordered = sorted(recordings, key=lambda item: (item["started_at"], item["recording_id"]), reverse=True)
        delete: list[Mapping[str, Any]] = []
        kept: list[tuple[Mapping[str, Any], str]] = []
        for metadata in ordered:
            rule = self._rule(metadata, moment)
            if rule == "expired":
                delete.append(metadata)
            else:
                kept.append((metadata, rule))
        count, size = len(kept), sum(_size(metadata) for metadata, _ in kept)
        rules: Counter[str] = Counter()
        for metadata, rule in reversed(kept):
            too_many = self.max_count is not None and count > self.max_count
            too_big = self.max_size_gb is not None and size > self.max_size_gb * GIGABYTE
            if rule == "fresh" and (too_many or too_big):
                delete.append(metadata)
                count, size = count - 1, size - _size(metadata)
            else:
                rules[rule] += 1
        delete.sort(key=lambda item: (item["started_at"], item["recording_id"]))
        return RetentionPlan(
            total=len(ordered),
            delete=[str(item["recording_id"]) for item in delete],
            delete_bytes=sum(_size(item) for item in delete),
            kept_by_rule=dict(rules),
        )

    def _rule(self, metadata: Mapping[str, Any], now: float) -> str:
        """Return the rule that decides: legal-hold, tag, failed or fresh keep, expired does not."""
        if HOLD_TAG in (metadata.get("tags") or ()):
            return HOLD_TAG
        if set(self.tags_to_keep) & set(metadata.get("tags") or ()):
            return "tag"
        days = (now - float(metadata["started_at"])) / DAY_SECONDS
        if metadata.get("success") is False and self.keep_failed:
            expired = self.max_age_days_failed is not None and days > self.max_age_days_failed
            return "expired" if expired else "failed"
        return "expired" if self.max_age_days is not None and days > self.max_age_days else "fresh"


def refuse_held(recording_id: object, tags: Iterable[str] | None, verb: str = "removed") -> None:
    """Raise unless a recording with these tags may be removed, or what ``verb`` says.

    Raises:
        RecordingProtected: it is on legal hold.
    """
    if HOLD_TAG in (tags or ()):
        raise RecordingProtected(
            f'recording {recording_id} is protected by its tag "{HOLD_TAG}" and was not {verb}; take the tag off first'
        )


def keep(execution_id: Any) -> Any:
    """Keep the recording of an ended execution by hand; see ``recordings.keeping.keep``. Needs Django."""
    from recordings import keeping

    return keeping.keep(execution_id)


def sizes_by_workflow(user: Any = None) -> list[dict[str, Any]]:
    """Return ``workflow``, ``recordings`` and ``bytes`` of each workflow, the greatest first. Needs Django."""
    from recordings import keeping

    return keeping.sizes_by_workflow(user)


def _size(metadata: Mapping[str, Any]) -> int:
    return int(metadata.get("file_size_bytes") or 0)
