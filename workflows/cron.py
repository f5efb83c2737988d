"""Five-field cron in an IANA zone: checking it, its next instants, its smallest gap, and saying it in words.

Instants are computed in UTC from the text and the zone as written:

* day and weekday are OR when both are restricted; a field that begins with ``*`` is not a restriction
  (``*/2`` narrows what the other one allows); names, ranges, lists and steps; 7 is Sunday;
* a fixed time (minute and hour both without ``*``) that the clock skips runs at the first valid minute
  after the gap, and one that the clock shows twice runs once, the first time;
* hourly and minute patterns follow real time: they run in both passes of a repeated hour.

``cronsim`` finds the matching wall-clock minutes. It is given plain wall-clock times only: with a zone it
steps over instants next to half-hour changes (Australia/Lord_Howe), so the zone is applied here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from difflib import get_close_matches
from functools import lru_cache
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

from cronsim import CronSim

LENGTH_LIMIT = 120
NEVER_YEARS = 50
"""A pattern without a match for this long (cronsim's own limit) never fires."""

MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)
WEEKDAYS = ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")
MONTHS = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip
_LONGEST_MONTH = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_NON_GEOGRAPHIC = frozenset({"Factory", "localtime", "posixrules"})


class IntervalTooShort(ValueError):
    """The cron is valid but fires more often than allowed."""


@dataclass(frozen=True, slots=True)
class Field:
    """What one of the five fields allows. ``last`` is where ``*`` and a start with a step end."""

    name: str
    low: int
    high: int
    last: int
    names: tuple[str, ...] = ()


FIELDS = (
    Field("minute", 0, 59, 59),
    Field("hour", 0, 23, 23),
    Field("day of month", 1, 31, 31),
    Field("month", 1, 12, 12, tuple(name[:3].upper() for name in MONTHS)),
    Field("weekday", 0, 7, 6, tuple(name[:3].upper() for name in WEEKDAYS)),
)
_DAY, _WEEKDAY = 2, 4


@dataclass(frozen=True, slots=True)
class Cron:
    """A checked expression. Weekdays are 0 (Sunday) to 6.

    ``fixed_time`` says how clock changes are treated; ``both_days`` that a day must match the day of
    month and the weekday, instead of one of them.
    """

    text: str
    canonical: str
    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: tuple[int, ...]
    months: tuple[int, ...]
    weekdays: tuple[int, ...]
    fixed_time: bool
    both_days: bool

    def matches_day(self, day: int, month: int, weekday: int) -> bool:
        """Return whether the pattern fires on such a day (``weekday`` 0 is Sunday)."""
        if month not in self.months:
            return False
        if self.both_days:
            return day in self.days and weekday in self.weekdays
        return day in self.days or weekday in self.weekdays


def parse(text: str) -> Cron:
    """Return the checked expression.

    Raises:
        ValueError: with the reason: not five fields, a value out of range, a date that never comes.
    """
    if not isinstance(text, str):
        raise ValueError(f"a cron expression is a text, not {type(text).__name__}")
    return _parse(text)


@lru_cache(maxsize=4096)
def _parse(text: str) -> Cron:
    cleaned = text.strip(" \t\r\n").upper()
    if len(text) > LENGTH_LIMIT:
        raise ValueError(f"the cron expression has {len(text)} characters; the most are {LENGTH_LIMIT}")
    parts = re.split(r"[ \t]+", cleaned) if cleaned else []
    if len(parts) != 5:
        hint = "; shortcuts such as @daily are not supported" if cleaned.startswith("@") else ""
        raise ValueError(
            f'cron "{text}" has {len(parts)} field(s); it needs exactly five: minute hour day month weekday{hint}'
        )
    sets = [_field(part, field, text) for part, field in zip(parts, FIELDS, strict=True)]
    minutes, hours, days, months, weekdays = sets
    weekdays = tuple(sorted({number % 7 for number in weekdays}))
    whole = [part.startswith("*") for part in parts]
    both_days = whole[_DAY] or whole[_WEEKDAY]
    if both_days and min(days) > max(_LONGEST_MONTH[month - 1] for month in months):
        names = _words([MONTHS[month - 1] for month in months], "or")
        raise ValueError(f'cron "{text}" never fires: there is no day {min(days)} in {names}')
    fixed = not (whole[0] or len(minutes) == 60 or whole[1] or len(hours) == 24)
    return Cron(
        text=text,
        canonical=_canonical(whole, (minutes, hours, days, months, weekdays)),
        minutes=minutes,
        hours=hours,
        days=days,
        months=months,
        weekdays=weekdays,
        fixed_time=fixed,
        both_days=both_days,
    )


def _canonical(whole: Sequence[bool], sets: Sequence[tuple[int, ...]]) -> str:
    """Return the text for cronsim: numbers only, except that a day field keeps its star, which has a meaning.

    A star with a step always holds the field's lowest number, and ``*/99`` is exactly that number.
    """
    fields = []
    for index, (numbers, field) in enumerate(zip(sets, FIELDS, strict=True)):
        listed = ",".join(map(str, numbers))
        if index in (_DAY, _WEEKDAY) and whole[index]:
            fields.append("*" if len(numbers) == (7 if index == _WEEKDAY else field.high) else f"*/99,{listed}")
        else:
            fields.append(listed)
    return " ".join(fields)


def _field(part: str, field: Field, text: str) -> tuple[int, ...]:
    numbers: set[int] = set()
    for term in part.split(","):
        numbers.update(_term(term, field, text))
    return tuple(sorted(numbers))


def _term(term: str, field: Field, text: str) -> range:
    def refuse(reason: str) -> ValueError:
        return ValueError(f'cron "{text}": {field.name} "{term}" {reason}')

    body, slash, step_text = term.partition("/")
    step = 1
    if slash:
        if not re.fullmatch(r"[0-9]{1,4}", step_text) or int(step_text) == 0:
            raise refuse("has a step that is not a number from 1")
        step = int(step_text)
    if body == "*":
        return range(field.low, field.last + 1, step)
    first, dash, last = body.partition("-")
    start = _number(first, field, refuse)
    if not dash:
        return range(start, max(start, field.last) + 1, step) if slash else range(start, start + 1)
    end = field.high if field.names and last == "SUN" else _number(last, field, refuse)
    if end < start:
        raise refuse("runs backwards; write it as two ranges")
    return range(start, end + 1, step)


def _number(text: str, field: Field, refuse: Callable[[str], ValueError]) -> int:
    if text in field.names:
        return field.names.index(text) + field.low
    if not re.fullmatch(r"[0-9]{1,4}", text):
        if text in ("L", "LW", "W", "?", "R", "H") or "#" in text or text.endswith(("L", "W")):
            raise refuse("is not standard cron; use numbers, names, ranges, lists and steps")
        raise refuse("cannot be read")
    number = int(text)
    if not field.low <= number <= field.high:
        raise refuse(f"is outside {field.low} to {field.high}")
    return number


# ---------------------------------------------------------------------- zones


@lru_cache(maxsize=1)
def zone_names() -> frozenset[str]:
    """Return the names of all IANA zones known here."""
    return frozenset(available_timezones()) - _NON_GEOGRAPHIC


@lru_cache(maxsize=1024)
def zone(name: str) -> ZoneInfo:
    """Return the zone called ``name``.

    Raises:
        ValueError: there is no such IANA zone; the message suggests a near name.
    """
    if not isinstance(name, str):
        raise ValueError(f"a time zone is a name such as Europe/Berlin, not {type(name).__name__}")
    if name not in zone_names():
        names = {known.lower(): known for known in zone_names()}
        found = get_close_matches(name.lower(), names, n=1, cutoff=0.6) if len(name) <= 64 else []
        near = [names[match] for match in found]
        hint = f'; did you mean "{near[0]}"?' if near else "; use an IANA name such as Europe/Berlin or UTC"
        raise ValueError(f'there is no time zone "{name[:64]}"{hint}')
    return ZoneInfo(name)


# ---------------------------------------------------------------------- instants


def get_next_run_date(cron: str, tz: str = "UTC", after: datetime | None = None) -> datetime:
    """Return the first instant of ``cron``, read in ``tz``, strictly after ``after`` (default now), in UTC.

    Raises:
        ValueError: the cron or the zone is not valid, ``after`` has no zone, or the cron never fires again.
    """
    return next(instants(cron, tz, after))


def next_runs(cron: str, tz: str = "UTC", count: int = 5, after: datetime | None = None) -> list[datetime]:
    """Return the next ``count`` instants in UTC, in order."""
    runs = instants(cron, tz, after)
    return [next(runs) for _ in range(count)]


def instants(cron: str, tz: str = "UTC", after: datetime | None = None) -> Iterator[datetime]:
    """Yield every instant after ``after`` in UTC; arguments are checked at once, not at the first ``next``.

    Raises:
        ValueError: as ``get_next_run_date``.
    """
    pattern, place = parse(cron), zone(tz)
    return _instants(pattern, place, datetime.now(UTC) if after is None else _utc(after))


def _utc(after: Any) -> datetime:
    if not isinstance(after, datetime) or after.utcoffset() is None:
        raise ValueError("after must be a datetime with a time zone")
    return after.astimezone(UTC)


def _instants(pattern: Cron, place: ZoneInfo, after: datetime) -> Iterator[datetime]:
    step = _next_fixed if pattern.fixed_time else _next_real
    while True:
        try:
            after = step(pattern, place, after)
        except (OverflowError, StopIteration):
            raise ValueError(f'cron "{pattern.text}" does not fire within {NEVER_YEARS} years of {after}') from None
        except ValueError as error:
            raise ValueError(f'cron "{pattern.text}" has no further instant after {after}: {error}') from None
        yield after


def _wall(pattern: Cron, start: datetime) -> datetime:
    """Return the first matching wall-clock minute strictly after ``start``; neither has a zone."""
    # cronsim matches whole seconds; from 09:00:30 the minute 09:00 is over in either case.
    found: datetime = next(CronSim(pattern.canonical, start.replace(second=59)))
    return found


def _next_fixed(pattern: Cron, place: ZoneInfo, after: datetime) -> datetime:
    wall = after.astimezone(place).replace(tzinfo=None)
    while True:
        wall = _wall(pattern, wall)
        moment = _first_valid(wall, place)
        # In the second pass of a repeated hour the wall clock is behind what has already run.
        if moment > after:
            return moment


def _first_valid(wall: datetime, place: ZoneInfo) -> datetime:
    """Return the first instant that shows ``wall``; in a gap, the first instant after the gap, to the minute."""
    moment = wall.replace(tzinfo=place, fold=0).astimezone(UTC)
    if moment.astimezone(place).replace(tzinfo=None) == wall:
        return moment
    # ``wall`` is in a gap: fold=1 reads it with the later offset, which lies before the change, and vice versa.
    before = wall.replace(tzinfo=place, fold=1).astimezone(UTC)
    change = _change(place, before, moment) or moment
    seconds = change.astimezone(place).second
    return change + timedelta(seconds=60 - seconds) if seconds else change


def _next_real(pattern: Cron, place: ZoneInfo, after: datetime) -> datetime:
    """Walk from one constant offset to the next; inside one, wall clock and real time run alike."""
    start, offset = after, _offset(place, after)
    wall_start = (start + offset).replace(tzinfo=None)
    while True:
        wall = _wall(pattern, wall_start)
        moment = wall.replace(tzinfo=UTC) - offset
        # Far ahead nothing matches in between, whatever the clock does, unless it is set back right now.
        far = moment - start > 5 * DAY
        change = _change(place, start, start + 2 * DAY if far else moment)
        if change is not None:
            start, offset = change, _offset(place, change)
            shown = (start + offset).replace(tzinfo=None)
            # The minute that the clock shows right after the change may match too.
            wall_start = shown if shown.second else shown - MINUTE
        elif far:
            start = moment - 2 * DAY
            offset = _offset(place, start)
            wall_start = (start + offset).replace(tzinfo=None)
        else:
            return moment


def _offset(place: ZoneInfo, moment: datetime) -> timedelta:
    return moment.astimezone(place).replace(tzinfo=None) - moment.replace(tzinfo=None)


def _change(place: ZoneInfo, start: datetime, end: datetime) -> datetime | None:
    """Return the first instant in (start, end] with another offset than at ``start``, to the second, or None.

    Looks at every sixth hour: no zone has had two changes within one.
    """
    before = _offset(place, start)
    low = start
    while low < end:
        high = min(low + DAY / 4, end)
        if _offset(place, high) != before:
            while high - low > timedelta(seconds=1):
                middle = low + (high - low) / 2
                if _offset(place, middle) == before:
                    low = middle
                else:
                    high = middle
            # ``high`` is less than a second behind the change, which is on a whole second.
            return high.replace(microsecond=0)
        low = high
    return None


# ---------------------------------------------------------------------- smallest gap


def minimum_gap_seconds(cron: str) -> int:
    """Return the smallest time between two runs on the wall clock, exact over all dates, in seconds.

    ``*/7 * * * *`` has 240: it fires at minute 56 and at minute 0. What a clock change does to single
    runs is not counted.
    """
    return _minimum_gap(parse(cron))


@lru_cache(maxsize=1024)
def _minimum_gap(pattern: Cron) -> int:
    times = [hour * 60 + minute for hour in pattern.hours for minute in pattern.minutes]
    inside = min((later - earlier for earlier, later in pairwise(times)), default=None)
    over_midnight = times[0] + 24 * 60 - times[-1]
    if inside is not None and inside <= over_midnight:
        return inside * 60
    between_days = over_midnight + (_nearest_days(pattern) - 1) * 24 * 60
    return (between_days if inside is None else min(inside, between_days)) * 60


def _nearest_days(pattern: Cron) -> int:
    """Return the smallest distance in days between two days on which the pattern fires."""
    nearest = 366 * NEVER_YEARS
    last: int | None = None
    for ordinal, (day, month, weekday) in enumerate(_calendar()):
        if pattern.matches_day(day, month, weekday):
            if last is not None and ordinal - last < nearest:
                nearest = ordinal - last
                if nearest == 1:
                    break
            last = ordinal
    return nearest


@lru_cache(maxsize=1)
def _calendar() -> list[tuple[int, int, int]]:
    """Return (day, month, weekday) of 28 years and a day: every date with every weekday, leap years included."""
    first = date(2001, 1, 1)
    days = (first + timedelta(days=number) for number in range(28 * 365 + 7 + 1))
    return [(day.day, day.month, day.isoweekday() % 7) for day in days]


def check(cron: str, tz: str = "UTC", minimum_seconds: int = 300) -> None:
    """Check that ``cron`` and ``tz`` are valid and fire no more often than every ``minimum_seconds``.

    Raises:
        IntervalTooShort: a ValueError: the smallest gap is shorter.
        ValueError: the cron or the zone is not valid, or it never fires.
    """
    parse(cron)
    get_next_run_date(cron, tz)
    gap = minimum_gap_seconds(cron)
    if gap < minimum_seconds:
        raise IntervalTooShort(
            f'cron "{cron}" has runs {_duration(gap)} apart; the minimum is {_duration(minimum_seconds)}'
        )


def _duration(seconds: int) -> str:
    if seconds % 60:
        return f"{seconds} seconds"
    return "1 minute" if seconds == 60 else f"{seconds // 60} minutes"


# ---------------------------------------------------------------------- words


def describe(cron: str) -> str:
    """Return the expression in words, for example "Monday to Friday at 09:00".

    Raises:
        ValueError: the expression is not valid.
    """
    pattern = parse(cron)
    clock, times = _time_words(pattern)
    days = _day_words(pattern)
    months = "" if len(pattern.months) == 12 else f" in {_runs([month - 1 for month in pattern.months], MONTHS)}"
    if clock:
        sentence = f"{days or 'every day'}{months} {times}"
    else:
        sentence = f"{times}{', ' + days if days else ''}{months}"
    return sentence[0].upper() + sentence[1:]


def _time_words(pattern: Cron) -> tuple[bool, str]:
    """Return whether the words are times of the day ("at 09:00"), and the words."""
    minutes, hours = pattern.minutes, pattern.hours
    every = _even_step(minutes, 60)
    hour_step = _even_step(hours, 24)
    label = f"minute{'s' if len(minutes) > 1 else ''} {_runs(minutes)}"
    if len(hours) == 24:
        if every:
            return False, "every minute" if every == 1 else f"every {every} minutes"
        return False, "every hour" if minutes == (0,) else f"every hour at {label}"
    if len(minutes) == 1 and hour_step:
        return False, f"every {hour_step} hours" + ("" if minutes == (0,) else f" at {label}")
    if len(minutes) * len(hours) <= 6:
        return True, "at " + _words([f"{hour:02}:{minute:02}" for hour in hours for minute in minutes])
    inside = f"every {hour_step} hours" if hour_step else f"hour{'s' if len(hours) > 1 else ''} {_runs(hours)}"
    if every:
        return False, f"every {every} minutes in {inside}" if every > 1 else f"every minute in {inside}"
    return False, f"at {label} of {inside}"


def _day_words(pattern: Cron) -> str:
    all_days, all_weekdays = len(pattern.days) == 31, len(pattern.weekdays) == 7
    monday_first = sorted((number or 7) - 1 for number in pattern.weekdays)
    weekdays = _runs(monday_first, (*WEEKDAYS[1:], WEEKDAYS[0]))
    days = f"on day{'s' if len(pattern.days) > 1 else ''} {_runs(pattern.days)} of the month"
    if all_days and all_weekdays:
        return ""
    if pattern.both_days:
        if all_weekdays:
            return days
        return weekdays if all_days else f"{days} if it is {weekdays}"
    return f"{days} or on {weekdays}"


def _even_step(numbers: Sequence[int], size: int) -> int:
    """Return the step if the numbers are 0, step, 2*step ... around the whole clock, else 0."""
    if len(numbers) < 2 or numbers[0] != 0:
        return 0
    step = numbers[1]
    return step if size % step == 0 and tuple(numbers) == tuple(range(0, size, step)) else 0


def _runs(numbers: Sequence[int], names: Sequence[str] = ()) -> str:
    """Return numbers (or the names they index), with runs of three or more written as "a to b"."""
    pieces: list[str] = []
    index = 0
    while index < len(numbers):
        end = index
        while end + 1 < len(numbers) and numbers[end + 1] == numbers[end] + 1:
            end += 1
        labels = [names[number] if names else str(number) for number in numbers[index : end + 1]]
        pieces.extend([f"{labels[0]} to {labels[-1]}"] if len(labels) > 2 else labels)
        index = end + 1
    return _words(pieces)


def _words(pieces: Sequence[str], joint: str = "and") -> str:
    if len(pieces) < 2:
        return "".join(pieces)
    return f"{', '.join(pieces[:-1])} {joint} {pieces[-1]}"
