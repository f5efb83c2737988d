"""Admin pages of recordings, their events and blobs. Everything here is looked at, never edited by hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any

from django.contrib import admin, messages
from django.db.models import Avg, Case, Count, Q, QuerySet, Sum, When
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.template.defaultfilters import filesizeformat
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe

from recordings import inspection, pages
from recordings.database import DatabaseRecordingStorage
from recordings.errors import RecordingError, TooManyTags
from recordings.finding import replayer_of
from recordings.models import CHANGE_EVERYTHING, SEE_EVERYTHING, Blob, BlobRef, Event, Recording, StoredFile
from recordings.pages import EMPTY, seconds_text, status_text, trigger_text, version_text
from recordings.replayer import ExecutionReplayer
from recordings.retention import HOLD_TAG

BY_EXECUTION = "workflow"
"""The trigger of what another execution started."""
OFFERED = 50
TAGGED_ROWS = 500
TAGS_SHOWN = 4
TAG_CHARACTERS = 100
SIBLINGS = 25
DURATIONS: dict[str, tuple[str, float, float | None]] = {
    "1": ("Below 1 s", 0, 1),
    "10": ("1 to 10 s", 1, 10),
    "60": ("10 to 60 s", 10, 60),
    "600": ("1 to 10 min", 60, 600),
    "more": ("10 min and more", 600, None),
}


def status_pill(status: str) -> SafeString | str:
    """Return ``status`` as icon, word and colour."""
    if not status:
        return EMPTY
    return format_html(
        '<span class="adm-status adm-status-{0}"><svg aria-hidden="true"><use href="#adm-s-{0}"/></svg>{1}</span>',
        status,
        status_text(status, None),
    )


def ending(recording: Recording) -> SafeString | str:
    """Return how a recorded run ended; one of another program has no status of its own."""
    known = recording.status or {True: "completed", False: "failed", None: ""}[recording.success]
    return status_pill(known) if known else mark_safe('<span class="adm-status">Unfinished</span>')


def cause(recording: Recording) -> str:
    """Return why a run failed, or was cancelled where that has a reason of its own."""
    return "" if recording.error.strip() == recording.status == "cancelled" else recording.error.strip()


class DateFilter(admin.DateFieldListFilter):
    """Filter by day; its title is the column without "at"."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.title = str(self.title).removesuffix(" at")


class WatchedAdmin(admin.ModelAdmin):
    """Rows that the product writes and their owners look at; who may see everything sees all."""

    empty_value_display = EMPTY
    list_per_page = 50
    show_full_result_count = False

    def visible(self, rows: QuerySet[Any], user: Any) -> QuerySet[Any]:
        """Return those of ``rows`` that belong to executions of ``user``, who is not a superuser: none, where none do."""
        return rows.none()

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Return the rows that the user may see; for a request that changes something, those that they may change."""
        rows = super().get_queryset(request)
        reads = request.method in ("GET", "HEAD", "OPTIONS")
        needed = (SEE_EVERYTHING,) if reads else (SEE_EVERYTHING, CHANGE_EVERYTHING)
        return rows if request.user.has_perms(needed) else self.visible(rows, request.user)

    def has_module_permission(self, request: HttpRequest) -> bool:
        """Every staff user may have recordings."""
        return bool(request.user.is_active and request.user.is_staff)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """``get_queryset`` holds foreign rows back."""
        return self.has_module_permission(request)

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Nobody adds such a row by hand."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody edits such a row."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Retention deletes, nobody else."""
        return False


def _executions_of(user: Any) -> QuerySet[Any]:
    return Recording.objects.filter(user_id=user.pk, execution_id__isnull=False).values("execution_id")


class RecordedWordFilter(admin.SimpleListFilter):
    """The words that a column of the user's recordings has; NONE stands for the empty one."""

    NONE = "-"
    column = ""
    text: Callable[[str], str] = staticmethod(str)
    empty_label = "None"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Offer the words, and always the chosen one."""
        rows = model_admin.get_queryset(request).order_by(self.column).values_list(self.column, flat=True).distinct()
        return [(word, self.label(word)) for word in _offered([row or self.NONE for row in rows], self.value())]

    def label(self, word: str) -> str:
        """Return how a word is shown; what other programs recorded has none."""
        return self.empty_label if word == self.NONE else self.text(word)

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Keep the recordings with the chosen word."""
        chosen = self.value()
        return queryset.filter(**{self.column: "" if chosen == self.NONE else chosen}) if chosen else queryset


class StatusFilter(RecordedWordFilter):
    """How the runs ended."""

    title = column = "status"
    parameter_name = "status__exact"
    text = staticmethod(partial(status_text, success=None))
    empty_label = status_text(None, None)


class TriggerFilter(RecordedWordFilter):
    """What started the runs."""

    title = column = "trigger"
    parameter_name = "trigger__exact"
    text = staticmethod(trigger_text)


class StartedFilter(admin.SimpleListFilter):
    """What people and triggers started, or what other executions did (subflows, turns of loops), of which there are many."""

    title = "started by"
    parameter_name = "started"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Offer both kinds, and the chosen execution."""
        chosen = self.value()
        own = [(chosen, f"Execution {chosen[:8]}")] if chosen and chosen not in ("executions", "all") else []
        return [("executions", "Other executions"), ("all", "Anything"), *own]

    def choices(self, changelist: Any) -> Any:
        """Name what is shown when nothing is chosen."""
        for index, choice in enumerate(super().choices(changelist)):
            yield {**choice, "display": "People and triggers"} if index == 0 else choice

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Keep what is of the chosen kind; what one execution started when its id is chosen."""
        match self.value():
            case None:
                return self.runs(request, queryset)
            case "executions":
                return self.children(queryset)
            case "all":
                return queryset
            case chosen:
                return self.children_of(queryset, chosen)

    def runs(self, request: HttpRequest, rows: QuerySet[Any]) -> QuerySet[Any]:
        """Return what people and triggers started; whoever asks for the trigger of the others, or its tag, gets those."""
        by_trigger = request.GET.get(TriggerFilter.parameter_name) == BY_EXECUTION
        by_tag = request.GET.get(TagFilter.parameter_name) == f"trigger:{BY_EXECUTION}"
        return rows if by_trigger or by_tag else rows.exclude(trigger=BY_EXECUTION)

    def children(self, rows: QuerySet[Any]) -> QuerySet[Any]:
        """Return what other executions started."""
        return rows.filter(trigger=BY_EXECUTION)

    def children_of(self, rows: QuerySet[Any], chosen: str) -> QuerySet[Any]:
        """Return what one execution started; recordings alone do not know that."""
        return rows.none()


class NameFilter(admin.SimpleListFilter):
    """The workflows that the user has recordings of."""

    title = "workflow"
    parameter_name = "workflow"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Offer the names; of many the first ones, and always the chosen one."""
        names = model_admin.get_queryset(request).order_by("workflow_name").values_list("workflow_name", flat=True)
        return [(name, name) for name in _offered(list(names.distinct()[:OFFERED]), self.value())]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Keep the recordings of the chosen workflow."""
        return queryset.filter(workflow_name=self.value()) if self.value() else queryset


class TagFilter(admin.SimpleListFilter):
    """The tags of the user's newest recordings."""

    title = "tag"
    parameter_name = "tag"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Offer the tags, and always the chosen one."""
        tagged = model_admin.get_queryset(request).exclude(tags=[]).order_by("-started_at")
        found = {str(tag) for tags in tagged.values_list("tags", flat=True)[:TAGGED_ROWS] for tag in tags}
        return [(tag, tag) for tag in _offered(sorted(found)[:OFFERED], self.value())]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Keep the recordings with the chosen tag."""
        return queryset.filter(tags__has_element=self.value()) if self.value() else queryset


def _offered(names: list[str], chosen: str | None) -> list[str]:
    return [*names, chosen] if chosen and chosen not in names else names


class DurationFilter(admin.SimpleListFilter):
    """How long the execution took."""

    title = "duration"
    parameter_name = "duration"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Offer the ranges."""
        return [(name, label) for name, (label, _, _) in DURATIONS.items()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Keep the recordings within the chosen range."""
        if self.value() not in DURATIONS:
            return queryset
        _, least, below = DURATIONS[str(self.value())]
        rows = queryset.filter(duration_seconds__gte=least)
        return rows if below is None else rows.filter(duration_seconds__lt=below)


@admin.register(Recording)
class RecordingAdmin(WatchedAdmin):
    """List of recordings; the page of one steps through its events."""

    list_display = ("workflow_text", "status_pill", "error_line", "started", "length", "events", "size")
    list_filter = (
        StatusFilter, NameFilter, TagFilter, DurationFilter, TriggerFilter, StartedFilter, ("started_at", DateFilter),
    )  # fmt: skip
    search_fields = ("workflow_name", "error", "id", "execution_id")
    ordering = ("-started_at",)
    empty_text = "Every execution is recorded when it ends. Run a workflow, then step through it here."

    class Media:
        js = ("flowbuilder/recording.js",)

    def visible(self, rows: QuerySet[Recording], user: Any) -> QuerySet[Recording]:
        """Return the recordings of ``user``."""
        return rows.filter(user_id=user.pk)

    def get_urls(self) -> list[URLPattern]:
        """Add the addresses of an event, of the tags and of a comparison."""
        view = self.admin_site.admin_view
        name = "recordings_recording"
        return [
            path("<uuid:pk>/event/<int:number>/", view(self.event_view), name=f"{name}_event"),
            path("<uuid:pk>/tags/", view(self.tags_view), name=f"{name}_tags"),
            path("<uuid:pk>/compare/", view(self.compare_view), name=f"{name}_compare"),
            *super().get_urls(),
        ]

    # ------------------------------------------------------------------ the list

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Show the list, with totals of what it shows."""
        response = super().changelist_view(request, extra_context)
        context = getattr(response, "context_data", None)
        if context and "cl" in context:
            context["totals"] = _totals(context["cl"].queryset)
        return response

    @admin.display(description="Recording", ordering="workflow_name")
    def workflow_text(self, recording: Recording) -> SafeString:
        """Show the workflow, the version, the start of the id and the tags."""
        return format_html(
            '<span class="adm-name" title="{0}">{0}</span>'
            '<span class="adm-second"><span class="adm-mono">{1}</span>{2}</span>{3}',
            recording.workflow_name,
            str(recording.pk)[:8],
            "" if recording.version_number is None else f" · {self.version_text(recording)}",
            _tag_list(recording.tags),
        )

    @admin.display(description="Status", ordering="status")
    def status_pill(self, recording: Recording) -> SafeString | str:
        """Show how the execution ended."""
        return ending(recording)

    @admin.display(description="Cause", ordering="error")
    def error_line(self, recording: Recording) -> SafeString | str:
        """Show why it failed, in one line."""
        line = cause(recording).partition("\n")[0]
        return format_html('<span class="adm-cause" title="{0}">{0}</span>', line) if line else mark_safe("&nbsp;")

    @admin.display(description="Started", ordering="started_at")
    def started(self, recording: Recording) -> SafeString:
        """Show when the execution was queued."""
        text = date_format(timezone.localtime(recording.started_at), "j M, H:i")
        return format_html('<time datetime="{}">{}</time>', recording.started_at.isoformat(), text)

    @admin.display(description="Events", ordering="event_count")
    def events(self, recording: Recording) -> str:
        """Count the events."""
        return f"{recording.event_count:,}"

    @admin.display(description="Version", ordering="version_number")
    def version_text(self, recording: Recording) -> str:
        """Show the number of the version."""
        return version_text(recording.version_number)

    @admin.display(description="Duration", ordering="duration_seconds")
    def length(self, recording: Recording) -> str:
        """Show how long the execution took."""
        return seconds_text(recording.duration_seconds)

    @admin.display(description="Size", ordering="file_size_bytes")
    def size(self, recording: Recording) -> str:
        """Show the size of the sealed file."""
        return EMPTY if recording.file_size_bytes is None else filesizeformat(recording.file_size_bytes)

    @admin.display(description="Kept as", ordering="sealed_at")
    def kept(self, recording: Recording) -> str:
        """Say where the events are."""
        return "Sealed file" if recording.sealed else "Rows"

    # ------------------------------------------------------------------ one recording

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show one recording at an event: the chosen one, else the one that made it fail, else the first."""
        recording = self._get(request, object_id)
        context = {
            **self._context(request, recording, f"Recording of {recording.workflow_name}"),
            "facts": self._facts(recording),
            "cause": cause(recording),
            "tags": [str(tag) for tag in recording.tags or ()],
            "hold": HOLD_TAG,
            "held": HOLD_TAG in (recording.tags or ()),
            "downloads": pages.downloads(recording),
            "execution_url": self._execution_url(recording),
            "children_url": self.children_url(recording),
            "media": self.media,
        }
        try:
            context |= self._inside(request, recording)
        except RecordingError as error:
            context["unreadable"] = str(error)
        return TemplateResponse(request, "admin/recordings/recording/change_form.html", context)

    def _inside(self, request: HttpRequest, recording: Recording) -> dict[str, Any]:
        """Return what has to be read from the events."""
        with replayer_of(recording) as replayer:
            return self._read(request, recording, replayer)

    def _read(self, request: HttpRequest, recording: Recording, replayer: ExecutionReplayer) -> dict[str, Any]:
        count = len(replayer.events)
        if not count:
            return {"count": 0}
        opening = inspection.opening_position(recording, replayer) + 1
        number = _number(request.GET.get("event"), count) or opening
        after = _number(request.GET.get("after"), count, 0)
        page = (number - 1) // pages.EVENTS_PER_PAGE * pages.EVENTS_PER_PAGE if after is None else after
        found: dict[str, Any] = {
            "count": count,
            "count_text": f"{count:,}",
            "number": number,
            "number_text": f"{number:,}",
            "opening": opening if recording.success is False else None,
            "state_url": reverse("api:recording_state", args=(recording.pk,)),
            "player": pages.player(replayer, number),
            "page": pages.events_page(replayer, min(page, count - 1)),
            "artifacts": pages.artifacts(recording, replayer),
            "previous": max(1, number - 1),
            "next": min(count, number + 1),
        }
        if count <= pages.MEASURED_EVENTS:
            graph_url = reverse("api:recording_download", args=(recording.pk,)) + "?format=svg"
            found |= {**pages.course(recording, replayer), "graph_url": graph_url}
        else:
            found["unmeasured"] = f"{pages.MEASURED_EVENTS:,}"
        return found

    def event_view(self, request: HttpRequest, pk: Any, number: int) -> HttpResponse:
        """Show one event and the state after it, for the player."""
        recording = self._get(request, str(pk))
        try:
            with replayer_of(recording) as replayer:
                if not 1 <= number <= len(replayer.events):
                    raise Http404("there is no such event")
                state_url = reverse("api:recording_state", args=(recording.pk,))
                context: dict[str, Any] = {"player": pages.player(replayer, number), "state_url": state_url}
        except RecordingError as error:
            context = {"player": None, "unreadable": str(error)}
        return TemplateResponse(request, "admin/recordings/recording/event.html", context)

    def tags_view(self, request: HttpRequest, pk: Any) -> HttpResponse:
        """Add the tags named by ``add`` and remove those named by ``remove``, then show the recording."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        recording = self._get(request, str(pk))
        add = [tag.strip()[:TAG_CHARACTERS] for tag in request.POST.get("add", "").split(",") if tag.strip()]
        remove = request.POST.getlist("remove")
        try:
            if add or remove:
                DatabaseRecordingStorage(request.user).tag_sync(str(recording.pk), add=add, remove=remove)
        except (TooManyTags, ValueError) as error:
            messages.error(request, f"The tags stay as they are: {error}.")
        return HttpResponseRedirect(reverse("admin:recordings_recording_change", args=(recording.pk,)) + "#tags")

    def compare_view(self, request: HttpRequest, pk: Any) -> HttpResponse:
        """Compare with the recording named by ``with``; without one offer the newest of the same workflow."""
        recording = self._get(request, str(pk))
        context = self._context(request, recording, f"Compare {recording.workflow_name}")
        chosen = request.GET.get("with")
        if chosen:
            other = self._get(request, chosen)
            context |= {"other": other, "other_id": str(other.pk)[:8], "other_status": ending(other)}
            try:
                with replayer_of(recording) as first, replayer_of(other) as second:
                    context["result"] = pages.comparison(first, second)
            except RecordingError as error:
                context["unreadable"] = str(error)
        else:
            context["choices"] = [
                {
                    "recording": row,
                    "status": ending(row),
                    "length": self.length(row),
                    "started": self.started(row),
                }
                for row in self._siblings(request, recording)
            ]
        return TemplateResponse(request, "admin/recordings/recording/compare.html", context)

    def _siblings(self, request: HttpRequest, recording: Recording) -> QuerySet[Recording]:
        """Return the newest other recordings of the same workflow, those that began like it first: turns of loops are many."""
        rows = self.get_queryset(request).exclude(pk=recording.pk)
        by_workflow = Q(trigger=BY_EXECUTION)
        alike = by_workflow if recording.trigger == BY_EXECUTION else ~by_workflow
        if recording.workflow_id is not None:
            same: QuerySet[Recording] = rows.filter(workflow_id=recording.workflow_id)
        else:
            same = rows.filter(workflow_name=recording.workflow_name)
        return same.order_by(Case(When(alike, then=0), default=1), "-started_at")[:SIBLINGS]

    def _get(self, request: HttpRequest, pk: str) -> Recording:
        """Return a recording that the user may see.

        Raises:
            Http404: there is none with this id, or it is somebody else's.
        """
        recording: Recording | None = self.get_object(request, pk)
        if recording is None:
            raise Http404("there is no such recording")
        return recording

    def _context(self, request: HttpRequest, recording: Recording, title: str) -> dict[str, Any]:
        return {
            **self.admin_site.each_context(request),
            "title": title,
            "opts": self.opts,
            "recording": recording,
            "short_id": str(recording.pk)[:8],
            "status": ending(recording),
        }

    def _facts(self, recording: Recording) -> list[tuple[str, Any]]:
        return [
            ("Version", self.version_text(recording)),
            ("Trigger", trigger_text(recording.trigger) or EMPTY),
            ("Started", date_format(timezone.localtime(recording.started_at), "j M Y, H:i:s")),
            ("Duration", self.length(recording)),
            ("Events", f"{recording.event_count:,}"),
            ("Nodes", f"{recording.node_count:,}"),
            ("Credits", recording.credits),
            ("Size", self.size(recording)),
            ("Kept as", self.kept(recording)),
            *([("Kept because", recording.kept_because)] if recording.kept_because else []),
            (
                "Checksum",
                format_html(
                    '<span class="adm-mono" title="{}">{}</span>', recording.checksum, recording.checksum[:16] or EMPTY
                ),
            ),
            ("Id", format_html('<span class="adm-mono">{}</span>', recording.pk)),
        ]

    def children_url(self, recording: Recording) -> str:
        """Return the address of the recordings of what the run started; recordings alone do not know them."""
        return ""

    def _execution_url(self, recording: Recording) -> str:
        """Return the address of the execution's page; empty when there is none."""
        if recording.execution_id is None:
            return ""
        return reverse("admin:executions_execution_change", args=(recording.execution_id,))


def _totals(rows: QuerySet[Recording]) -> dict[str, Any]:
    """Return totals of the listed recordings, as they are shown."""
    found = rows.order_by().aggregate(
        total=Count("pk"),
        good=Count("pk", filter=Q(success=True)),
        bad=Count("pk", filter=Q(success=False)),
        cancelled=Count("pk", filter=Q(success=False, status="cancelled")),
        size=Sum("file_size_bytes"),
        seconds=Sum("duration_seconds"),
        mean=Avg("duration_seconds"),
    )
    ended = found["good"] + found["bad"]
    return {
        "total": f"{found['total']:,}",
        "success_rate": None if not ended else f"{100 * found['good'] / ended:.1f}",
        "good": f"{found['good']:,}",
        "bad": f"{found['bad']:,}",
        "cancelled": f"{found['cancelled']:,}" if found["cancelled"] else "",
        "unfinished": f"{found['total'] - ended:,}",
        "size": filesizeformat(found["size"] or 0),
        "seconds": seconds_text(found["seconds"] or 0.0),
        "mean": seconds_text(found["mean"]),
    }


def _tag_list(tags: Any) -> SafeString:
    """Return the first tags, and how many others there are."""
    named = [str(tag) for tag in tags or ()]
    shown = named if len(named) <= TAGS_SHOWN else [*named[: TAGS_SHOWN - 1], f"+{len(named) - TAGS_SHOWN + 1}"]
    found = format_html_join("", '<span class="adm-tag">{}</span>', ((tag,) for tag in shown))
    return format_html('<span class="adm-tags">{}</span>', found) if found else mark_safe("")


def _number(text: str | None, most: int, least: int = 1) -> int | None:
    """Return the number that a text says, from ``least`` to ``most``; None when it says none."""
    if not text or not text.isascii() or not text.isdigit() or len(text) > 12:
        return None
    return max(least, min(int(text), most))


@admin.register(Event)
class EventAdmin(WatchedAdmin):
    """Event rows that are not sealed away yet."""

    list_display = ("seq", "type", "node_id", "execution", "time")
    list_filter = ("type",)
    search_fields = ("execution_id", "node_id")
    fields = ("execution_id", "seq", "type", "time", "node_id", "depth", "content")
    readonly_fields = ("time", "content")
    ordering = ("-id",)

    def visible(self, rows: QuerySet[Event], user: Any) -> QuerySet[Event]:
        """Return the events of recorded executions of ``user``."""
        return rows.filter(execution_id__in=_executions_of(user))

    def get_queryset(self, request: HttpRequest) -> QuerySet[Event]:
        """Lists do not load the payloads."""
        return super().get_queryset(request).defer("data")

    @admin.display(description="Execution", ordering="execution_id")
    def execution(self, event: Event) -> SafeString:
        """Show the start of the execution's id."""
        return format_html(
            '<span class="adm-mono" title="{0}">{1}</span>', event.execution_id, str(event.execution_id)[:8]
        )

    @admin.display(description="Time", ordering="timestamp")
    def time(self, event: Event) -> str:
        """Show the time to the millisecond."""
        when = timezone.localtime(datetime.fromtimestamp(event.timestamp / 1_000_000, UTC))
        return f"{date_format(when, 'j M Y, H:i:s')}.{when.microsecond // 1000:03}"

    @admin.display(description="Data")
    def content(self, event: Event) -> SafeString:
        """Show the payload as readable JSON."""
        try:
            text = json.dumps(json.loads(event.data), indent=2, ensure_ascii=False)
        except ValueError:
            text = event.data
        return format_html('<pre class="adm-json">{}</pre>', text)


@admin.register(Blob)
class BlobAdmin(WatchedAdmin):
    """Stored bytes: big outputs, screenshots, sealed files."""

    list_display = ("name", "content_type", "size", "created_at")
    list_filter = ("content_type", ("created_at", DateFilter))
    search_fields = ("sha256",)
    fields = ("sha256", "content_type", "size", "created_at", "used_by")
    readonly_fields = ("size", "used_by")
    ordering = ("-created_at",)

    def visible(self, rows: QuerySet[Blob], user: Any) -> QuerySet[Blob]:
        """Return the blobs that executions of ``user`` use."""
        return rows.filter(pk__in=BlobRef.objects.filter(execution_id__in=_executions_of(user)).values("blob"))

    @admin.display(description="SHA-256", ordering="sha256")
    def name(self, blob: Blob) -> SafeString:
        """Show the start of the name."""
        return format_html('<span class="adm-mono">{}</span>', blob.sha256[:16])

    @admin.display(description="Size", ordering="size_bytes")
    def size(self, blob: Blob) -> str:
        """Show the size."""
        return filesizeformat(blob.size_bytes)

    @admin.display(description="Used by executions")
    def used_by(self, blob: Blob) -> int:
        """Count the executions that use it."""
        return blob.refs.count()


@admin.register(StoredFile)
class StoredFileAdmin(WatchedAdmin):
    """Files kept in the database; they belong to nobody, so only superusers see them."""

    list_display = ("name", "created_at")
    fields = ("name", "created_at")
    search_fields = ("name",)
    ordering = ("-created_at",)

    def has_module_permission(self, request: HttpRequest) -> bool:
        """Superusers only."""
        return bool(request.user.is_active and request.user.is_superuser)

    def visible(self, rows: QuerySet[StoredFile], user: Any) -> QuerySet[StoredFile]:
        """Return nothing."""
        return rows.none()

    def get_queryset(self, request: HttpRequest) -> QuerySet[StoredFile]:
        """Never load the bytes."""
        return super().get_queryset(request).defer("content")
