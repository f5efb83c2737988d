"""Cron against an oracle that looks at every minute, the specification's samples, and clock changes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise, product
from zoneinfo import ZoneInfo

import pytest
from celery.schedules import crontab
from cronsim import CronSim
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from workflows import cron
from workflows.cron import IntervalTooShort, describe, get_next_run_date, minimum_gap_seconds, next_runs

ZONES = (
    "UTC", "America/New_York", "Europe/Berlin", "Asia/Kolkata", "Australia/Lord_Howe", "America/St_Johns",
    "Africa/Casablanca", "America/Havana", "Asia/Beirut", "Pacific/Apia", "America/Santiago", "Asia/Tehran",
    "Antarctica/Troll", "Pacific/Chatham",
)  # fmt: skip
MINUTE = timedelta(minutes=1)
NAMES = {name: number for number, name in enumerate(("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"))}


# ---------------------------------------------------------------------- the oracle


def allowed(part: str, low: int, high: int) -> set[int]:
    """Read one field the long way round: try every number."""
    found = set()
    for term in part.split(","):
        body, _, step = term.partition("/")
        if body == "*":
            first, last = low, high
        elif "-" in body:
            first, last = map(int, body.split("-"))
        else:
            first = int(body)
            last = high if step else first
        found |= {number for number in range(first, last + 1) if (number - first) % int(step or 1) == 0}
    return found


def walk(text: str, zone: str, after: datetime, minutes: int) -> list[datetime]:
    """Return the instants in the next ``minutes`` by looking at each minute's wall clock, one by one."""
    parts = text.split()
    place = ZoneInfo(zone)
    fields = [
        allowed(part, low, high)
        for part, (low, high) in zip(parts, ((0, 59), (0, 23), (1, 31), (1, 12), (0, 6)), strict=True)
    ]
    fields[4] = {number % 7 for number in fields[4]}

    def matches(wall: datetime) -> bool:
        day, weekday = wall.day in fields[2], wall.isoweekday() % 7 in fields[4]
        either = (day and weekday) if "*" in (parts[2][0], parts[4][0]) else (day or weekday)
        return wall.minute in fields[0] and wall.hour in fields[1] and wall.month in fields[3] and either

    fixed = not (parts[0][0] == "*" or parts[1][0] == "*" or len(fields[0]) == 60 or len(fields[1]) == 24)
    found: list[datetime] = []
    seen: set[datetime] = set()
    # A day before, so that a wall time which was already shown is known in the second pass.
    moment = after.replace(second=0, microsecond=0) - timedelta(days=1)
    end = after + timedelta(minutes=minutes)
    previous = moment.astimezone(place).replace(tzinfo=None) - MINUTE
    while moment <= end:
        wall = moment.astimezone(place).replace(tzinfo=None)
        fires = matches(wall)
        if fixed:
            fires = fires and wall not in seen
            skipped = previous + MINUTE
            while skipped < wall:
                fires = fires or matches(skipped)
                skipped += MINUTE
            seen.add(wall)
        if fires and moment > after:
            found.append(moment)
        previous = max(previous, wall) if fixed else wall
        moment += MINUTE
    return found


def ours(text: str, zone: str, after: datetime, minutes: int) -> list[datetime]:
    end, found = after + timedelta(minutes=minutes), []
    try:
        for moment in cron.instants(text, zone, after):
            if moment > end:
                break
            found.append(moment)
    except ValueError:
        # It never fires (again); the oracle must have found nothing more either.
        pass
    return found


def field(low: int, high: int) -> st.SearchStrategy[str]:
    number = st.integers(low, high)
    ranges = st.tuples(number, number).map(lambda ends: f"{min(ends)}-{max(ends)}")
    steps = st.tuples(st.one_of(st.just("*"), ranges, number.map(str)), st.integers(1, high)).map(
        "{0[0]}/{0[1]}".format
    )
    term = st.one_of(number.map(str), ranges, steps)
    return st.one_of(st.just("*"), st.lists(term, min_size=1, max_size=3).map(",".join))


EXPRESSIONS = st.tuples(field(0, 59), field(0, 23), field(1, 31), field(1, 12), field(0, 6)).map(" ".join)


def is_valid(text: str) -> bool:
    try:
        cron.parse(text)
    except ValueError:
        return False
    return True


def changes(zone: str, year: int) -> list[datetime]:
    """Return the minutes of a year at which the zone's clock changes."""
    place, found = ZoneInfo(zone), []
    moment = datetime(year, 1, 1, tzinfo=UTC)
    while moment.year == year:
        if moment.astimezone(place).utcoffset() != (moment + timedelta(hours=6)).astimezone(place).utcoffset():
            found.append(moment)
        moment += timedelta(hours=6)
    return found


@pytest.mark.row("S2-12")
@settings(max_examples=40, deadline=None)
@given(text=EXPRESSIONS, zone=st.sampled_from(ZONES), minute=st.integers(0, 366 * 24 * 60), second=st.integers(0, 59))
def test_any_expression_fires_exactly_when_the_minute_walk_says(text: str, zone: str, minute: int, second: int) -> None:
    after = datetime(2026, 1, 1, 0, 0, second, tzinfo=UTC) + timedelta(minutes=minute)
    assume(is_valid(text))

    assert ours(text, zone, after, 2 * 24 * 60) == walk(text, zone, after, 2 * 24 * 60)


@pytest.mark.row("S2-13")
@settings(max_examples=60, deadline=None)
@given(
    minute=field(0, 59),
    hour=field(0, 4),
    zone=st.sampled_from(ZONES[1:]),
    pick=st.integers(0, 10),
    lead=st.integers(0, 600),
)
@example(minute="*/15", hour="*", zone="Australia/Lord_Howe", pick=0, lead=300)
@example(minute="45", hour="1", zone="Australia/Lord_Howe", pick=0, lead=300)
@example(minute="15", hour="2", zone="Australia/Lord_Howe", pick=1, lead=300)
def test_around_every_clock_change_it_fires_as_the_minute_walk_says(
    minute: str, hour: str, zone: str, pick: int, lead: int
) -> None:
    found = changes(zone, 2025) + changes(zone, 2026) or [datetime(2026, 3, 29, tzinfo=UTC)]
    after = found[pick % len(found)] - timedelta(minutes=lead)
    text = f"{minute} {hour} * * *"

    assert ours(text, zone, after, 1200) == walk(text, zone, after, 1200)


@pytest.mark.row("S2-12")
def test_five_hundred_expressions_agree_with_cronsim_in_utc_and_with_celery_where_it_means_the_same() -> None:
    minutes = ("0", "5", "*/15", "1-59/7", "0,30")
    hours = ("*", "*/2", "9", "9-17", "0,12")
    days = (
        ("*", "*", "*"),
        ("1", "*", "*"),
        ("*/10", "2", "*"),
        ("*", "*", "1-5"),
        ("15", "*/3", "*"),
        ("*", "6-8", "0,6"),
    )
    starts = (datetime(2026, 2, 27, 22, 10, tzinfo=UTC), datetime(2027, 12, 31, 23, 59, 30, tzinfo=UTC))
    compared = 0
    for minute, hour, (day, month, weekday), start in product(minutes, hours, days, starts):
        text = f"{minute} {hour} {day} {month} {weekday}"
        theirs = CronSim(text, start)
        expected = [next(theirs) for _ in range(5)]

        assert next_runs(text, "UTC", 5, start) == expected, text

        schedule = crontab(
            minute, hour, day_of_month=day, month_of_year=month, day_of_week=weekday, nowfun=lambda now=start: now
        )
        remaining = schedule.remaining_delta(start)
        assert remaining[0] + remaining[1] == expected[0], text
        compared += 2
    assert compared >= 500


# ---------------------------------------------------------------------- samples


@pytest.mark.row("S2-12b")
@pytest.mark.parametrize(
    ("text", "zone", "expected"),
    [
        # Friday evening: the next weekday is Monday.
        ("0 9 * * 1-5", "UTC", ["2026-03-09T09:00Z", "2026-03-10T09:00Z"]),
        # New York leaves winter time on Sunday 8 March 2026, so Monday is an hour earlier in UTC.
        ("0 9 * * 1-5", "America/New_York", ["2026-03-09T13:00Z", "2026-03-10T13:00Z"]),
        ("0 9 * * 1-5", "Asia/Kolkata", ["2026-03-09T03:30Z", "2026-03-10T03:30Z"]),
        ("*/15 * * * *", "UTC", ["2026-03-06T22:15Z", "2026-03-06T22:30Z"]),
        ("*/15 * * * *", "America/New_York", ["2026-03-06T22:15Z", "2026-03-06T22:30Z"]),
        ("*/15 * * * *", "Asia/Kolkata", ["2026-03-06T22:15Z", "2026-03-06T22:30Z"]),
        ("0 0 1 * *", "UTC", ["2026-04-01T00:00Z", "2026-05-01T00:00Z"]),
        ("0 0 1 * *", "America/New_York", ["2026-04-01T04:00Z", "2026-05-01T04:00Z"]),
        ("0 0 1 * *", "Asia/Kolkata", ["2026-03-31T18:30Z", "2026-04-30T18:30Z"]),
        ("0 */2 * * *", "UTC", ["2026-03-07T00:00Z", "2026-03-07T02:00Z"]),
        ("0 */2 * * *", "America/New_York", ["2026-03-06T23:00Z", "2026-03-07T01:00Z"]),
        ("0 */2 * * *", "Asia/Kolkata", ["2026-03-06T22:30Z", "2026-03-07T00:30Z"]),
    ],
)
def test_the_four_sample_expressions(text: str, zone: str, expected: list[str]) -> None:
    after = datetime(2026, 3, 6, 22, 5, tzinfo=UTC)

    assert [f"{run:%Y-%m-%dT%H:%MZ}" for run in next_runs(text, zone, 2, after)] == expected


def test_every_instant_is_aware_utc_and_strictly_later() -> None:
    first = get_next_run_date("0 9 * * *", "Europe/Berlin", datetime(2026, 6, 1, 7, 0, tzinfo=UTC))

    assert first == datetime(2026, 6, 2, 7, 0, tzinfo=UTC)
    assert first.tzinfo is UTC
    assert get_next_run_date("0 9 * * *") > datetime.now(UTC)


def test_after_may_stand_in_any_zone() -> None:
    after = datetime(2026, 6, 1, 3, 0, tzinfo=ZoneInfo("America/New_York"))

    assert get_next_run_date("0 9 * * *", "Europe/Berlin", after) == datetime(2026, 6, 2, 7, 0, tzinfo=UTC)


# ---------------------------------------------------------------------- clock changes


@pytest.mark.row("S2-13")
def test_a_time_in_the_gap_runs_at_the_first_valid_minute() -> None:
    after = datetime(2026, 3, 7, 12, 0, tzinfo=UTC)

    # 02:30 does not exist in New York on 8 March; 03:00 EDT is 07:00 UTC.
    assert next_runs("30 2 * * *", "America/New_York", 2, after) == [
        datetime(2026, 3, 8, 7, 0, tzinfo=UTC),
        datetime(2026, 3, 9, 6, 30, tzinfo=UTC),
    ]


@pytest.mark.row("S2-13")
def test_two_times_in_one_gap_run_once() -> None:
    after = datetime(2026, 3, 8, 6, 0, tzinfo=UTC)

    assert next_runs("15,45 2 * * *", "America/New_York", 2, after) == [
        datetime(2026, 3, 8, 7, 0, tzinfo=UTC),
        datetime(2026, 3, 9, 6, 15, tzinfo=UTC),
    ]


@pytest.mark.row("S2-13")
def test_a_fixed_time_in_the_repeated_hour_runs_once() -> None:
    after = datetime(2026, 11, 1, 4, 0, tzinfo=UTC)

    # 01:30 is shown twice on 1 November: 05:30 and 06:30 UTC.
    assert next_runs("30 1 * * *", "America/New_York", 2, after) == [
        datetime(2026, 11, 1, 5, 30, tzinfo=UTC),
        datetime(2026, 11, 2, 6, 30, tzinfo=UTC),
    ]


@pytest.mark.row("S2-13")
def test_it_does_not_run_again_when_asked_from_the_second_pass() -> None:
    second_pass = datetime(2026, 11, 1, 6, 10, tzinfo=UTC)

    assert get_next_run_date("30 1 * * *", "America/New_York", second_pass) == datetime(2026, 11, 2, 6, 30, tzinfo=UTC)


@pytest.mark.row("S2-13")
def test_hourly_and_minute_patterns_follow_real_time_through_the_repeated_hour() -> None:
    after = datetime(2026, 11, 1, 4, 59, tzinfo=UTC)

    hourly = next_runs("0 * * * *", "America/New_York", 4, after)
    quarters = next_runs("*/15 * * * *", "America/New_York", 12, after)

    assert [run.hour for run in hourly] == [5, 6, 7, 8]
    assert {later - earlier for earlier, later in pairwise(quarters)} == {timedelta(minutes=15)}


@pytest.mark.row("S2-13")
def test_half_hour_changes_lose_nothing() -> None:
    # Lord Howe goes from 02:00 back to 01:30 (15:00 UTC, 4 April 2026) and from 02:00 to 02:30 (15:30 UTC, 3 October).
    back = next_runs("*/15 * * * *", "Australia/Lord_Howe", 8, datetime(2026, 4, 4, 14, 14, tzinfo=UTC))
    fixed = next_runs("45 1 * * *", "Australia/Lord_Howe", 2, datetime(2026, 4, 4, 14, 0, tzinfo=UTC))
    skipped = next_runs("15 2 * * *", "Australia/Lord_Howe", 2, datetime(2026, 10, 3, 14, 0, tzinfo=UTC))
    hourly = next_runs("30 * * * *", "Australia/Lord_Howe", 3, datetime(2026, 4, 4, 14, 0, tzinfo=UTC))

    assert {later - earlier for earlier, later in pairwise(back)} == {timedelta(minutes=15)}
    assert fixed == [datetime(2026, 4, 4, 14, 45, tzinfo=UTC), datetime(2026, 4, 5, 15, 15, tzinfo=UTC)]
    assert skipped == [datetime(2026, 10, 3, 15, 30, tzinfo=UTC), datetime(2026, 10, 4, 15, 15, tzinfo=UTC)]
    assert hourly == [
        datetime(2026, 4, 4, 14, 30, tzinfo=UTC),
        datetime(2026, 4, 4, 15, 0, tzinfo=UTC),
        datetime(2026, 4, 4, 16, 0, tzinfo=UTC),
    ]


def test_the_library_alone_would_miss_an_instant_at_a_half_hour_change() -> None:
    # If this fails, cronsim has been mended; our walk over constant offsets stays right either way.
    place = ZoneInfo("Australia/Lord_Howe")
    start = datetime(2026, 4, 4, 12, 0, tzinfo=UTC)
    alone = CronSim("30 * * * *", start.astimezone(place))
    missed = set(next_runs("30 * * * *", "Australia/Lord_Howe", 5, start)) - {
        next(alone).astimezone(UTC) for _ in range(5)
    }

    assert missed == {datetime(2026, 4, 4, 15, 0, tzinfo=UTC)}


def test_rare_dates_far_ahead_are_found() -> None:
    after = datetime(2096, 3, 1, tzinfo=UTC)

    assert get_next_run_date("0 0 29 2 *", "Europe/Berlin", after) == datetime(2104, 2, 28, 23, 0, tzinfo=UTC)
    assert get_next_run_date("*/5 * 29 2 *", "America/New_York", after + timedelta(days=1)) == datetime(
        2104, 2, 29, 5, 0, tzinfo=UTC
    )


# ---------------------------------------------------------------------- syntax


@pytest.mark.row("S2-09")
@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "0 field(s)"),
        ("* * * *", "4 field(s)"),
        ("0 * * * * *", "6 field(s)"),
        ("@daily", "exactly five"),
        ("@reboot", "not supported"),
        ("R * * * *", "not standard"),
        ("H * * * *", "not standard"),
        ("0 0 L * *", "not standard"),
        ("0 0 LW * *", "not standard"),
        ("0 0 15W * *", "not standard"),
        ("0 0 * * 5L", "not standard"),
        ("0 0 * * 1#2", "not standard"),
        ("0 0 ? * 1", "not standard"),
        ("60 * * * *", 'minute "60" is outside 0 to 59'),
        ("0 24 * * *", 'hour "24" is outside 0 to 23'),
        ("0 0 0 * *", "outside 1 to 31"),
        ("0 0 1 13 *", "outside 1 to 12"),
        ("0 0 * * 8", "outside 0 to 7"),
        ("-1 * * * *", "cannot be read"),
        ("1.5 * * * *", "cannot be read"),
        ("1,,2 * * * *", "cannot be read"),
        ("*/0 * * * *", "step"),
        ("*/-2 * * * *", "step"),
        ("*/x * * * *", "step"),
        ("5-1 * * * *", "backwards"),
        ("0 0 * * FRI-MON", "backwards"),
        ("1-2-3 * * * *", "cannot be read"),
        ("٣ * * * *", "cannot be read"),
        ("0 0 31 2 *", "there is no day 31 in February"),
        ("0 0 30 2 *", "never fires"),
        ("0 0 31 4,6,9,11 *", "never fires"),
        ("0 0 31 2 */2", "never fires"),
        ("0 9 * * 1-5\n0 9 * * 1-5", "9 field(s)"),
        ("0 " * 100, "characters"),
    ],
)
def test_what_is_not_five_field_cron_is_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match="cron") as caught:
        get_next_run_date(text)

    assert reason in str(caught.value)


@pytest.mark.parametrize("value", [None, 5, b"* * * * *", ["* * * * *"]])
def test_what_is_not_text_is_a_value_error(value: object) -> None:
    with pytest.raises(ValueError, match="is a text"):
        get_next_run_date(value)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "zone", ["", "Mars/Base", "../../etc/passwd", "America", "localtime", "Europe/Berlin\0", 3, None]
)
def test_unknown_zones_are_refused(zone: object) -> None:
    with pytest.raises(ValueError, match="time zone"):
        get_next_run_date("0 9 * * *", zone)  # type: ignore[arg-type]


def test_a_misspelt_zone_gets_a_suggestion() -> None:
    with pytest.raises(ValueError, match='did you mean "Europe/Berlin"'):
        get_next_run_date("0 9 * * *", "europe/berln")


def test_a_naive_start_is_refused() -> None:
    with pytest.raises(ValueError, match="time zone"):
        get_next_run_date("0 9 * * *", "UTC", datetime(2026, 1, 1))  # noqa: DTZ001


def test_the_end_of_time_is_a_value_error() -> None:
    with pytest.raises(ValueError, match=r"fire|instant"):
        get_next_run_date("0 9 1 1 *", "UTC", datetime(9999, 12, 31, 23, tzinfo=UTC))


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("0 9 * JAN-MAR mon-fri", "0 9 * 1-3 1-5"),
        ("0 9 * * 7", "0 9 * * 0"),
        ("0 9 * * FRI-SUN", "0 9 * * 0,5,6"),
        ("0 9 * * 5-7", "0 9 * * 0,5,6"),
        ("  0   9 * *\t1 ", "0 9 * * MON"),
        ("10/20 * * * *", "10,30,50 * * * *"),
        ("0 9 * * */2", "0 9 * * 0,2,4,6"),
    ],
)
def test_spellings_of_the_same_schedule(left: str, right: str) -> None:
    after = datetime(2026, 2, 25, tzinfo=UTC)

    assert next_runs(left, "UTC", 20, after) == next_runs(right, "UTC", 20, after)


def test_day_and_weekday_are_or_when_both_are_restricted() -> None:
    runs = next_runs("0 0 1 * 1", "UTC", 4, datetime(2026, 11, 22, tzinfo=UTC))

    assert [f"{run:%m-%d}" for run in runs] == ["11-23", "11-30", "12-01", "12-07"]


# ---------------------------------------------------------------------- smallest gap


@pytest.mark.row("S2-12")
@pytest.mark.parametrize(
    ("text", "minutes"),
    [
        ("* * * * *", 1),
        ("*/5 * * * *", 5),
        ("*/7 * * * *", 4),  # 56 and 0
        ("*/40 * * * *", 20),
        ("0,58 * * * *", 2),
        ("0,59 0,23 * * *", 1),  # 23:59 and 00:00
        ("0,59 0,23 * * 1", 59),  # never two Mondays in a row
        ("0,59 0,23 * * 0,6", 1),
        ("0,59 0,23 1,31 * *", 1),  # 31 January and 1 February
        ("0,59 0,23 1,30 2 *", 59),
        ("0,59 0,23 1 * 1", 1),  # Monday the 31st and the 1st
        ("0 9 * * *", 24 * 60),
        ("0 9 * * 1", 7 * 24 * 60),
        ("0 9 1 1 *", 365 * 24 * 60),
        ("0 0 29 2 *", 4 * 365 * 24 * 60 + 24 * 60),
    ],
)
def test_the_smallest_gap_is_exact(text: str, minutes: int) -> None:
    assert minimum_gap_seconds(text) == minutes * 60


@settings(max_examples=100, deadline=None)
@given(text=st.tuples(field(0, 59), field(0, 23), st.just("*"), st.just("*"), field(0, 6)).map(" ".join))
def test_no_two_runs_of_a_fortnight_are_closer_than_the_smallest_gap(text: str) -> None:
    runs = walk(text, "UTC", datetime(2026, 1, 1, tzinfo=UTC), 15 * 24 * 60)
    gaps = [int((later - earlier).total_seconds()) for earlier, later in pairwise(runs)]

    assert minimum_gap_seconds(text) == min(gaps, default=minimum_gap_seconds(text))


@pytest.mark.row("S2-09")
def test_too_short_an_interval_names_both_numbers() -> None:
    with pytest.raises(
        IntervalTooShort, match=r'cron "\*/7 \* \* \* \*" has runs 4 minutes apart; the minimum is 5 minutes'
    ):
        cron.check("*/7 * * * *", "UTC", 300)

    cron.check("*/5 * * * *", "Australia/Lord_Howe", 300)


# ---------------------------------------------------------------------- words


@pytest.mark.row("S2-12")
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("0 9 * * 1-5", "Monday to Friday at 09:00"),
        ("*/15 * * * *", "Every 15 minutes"),
        ("0 0 1 * *", "On day 1 of the month at 00:00"),
        ("0 */2 * * *", "Every 2 hours"),
        ("30 8,20 * * *", "Every day at 08:30 and 20:30"),
        ("* * * * *", "Every minute"),
        ("0 * * * *", "Every hour"),
        ("5 * * * *", "Every hour at minute 5"),
        ("*/30 9-17 * * MON-FRI", "Every 30 minutes in hours 9 to 17, Monday to Friday"),
        ("0 9 13 * FRI", "On day 13 of the month or on Friday at 09:00"),
        ("0 9 * JAN,FEB,MAR,JUL *", "Every day in January to March and July at 09:00"),
        ("0 0 * * FRI-SUN", "Friday to Sunday at 00:00"),
    ],
)
def test_words(text: str, words: str) -> None:
    assert describe(text) == words


@settings(max_examples=100, deadline=None)
@given(text=EXPRESSIONS)
def test_every_valid_expression_has_words(text: str) -> None:
    assume(is_valid(text))

    assert describe(text)[0].isupper()
