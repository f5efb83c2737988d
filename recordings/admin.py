"""Admin pages of recordings, their events and blobs. Everything here is looked at, never edited by hand."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.template.defaultfilters import filesizeformat
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.html import format_html
from django.utils.safestring import SafeString, mark_safe

from recordings.events import RecordingEvent, describe
from recordings.models import Blob, BlobRef, Event, Recording, StoredFile

EMPTY = mark_safe('<span class="adm-muted">–</span>')
EVENTS_PER_PAGE = 100


def status_pill(status: str) -> SafeString | str:
    """Return ``status`` as icon, word and colour."""
    if not status:
        return EMPTY
    return format_html(
        '<span class="adm-status adm-status-{0}"><svg aria-hidden="true"><use href="#adm-s-{0}"/></svg>{1}</span>',
        status,
        "Pending" if status == "queued" else status.replace("_", " ").capitalize(),
    )


def seconds_text(seconds: float | None) -> str:
    """Return a length of time as people write it."""
    if seconds is None:
        return EMPTY
    if seconds < 1:
        return f"{round(seconds * 1000)} ms"
    return f"{seconds:.1f} s" if seconds < 60 else f"{int(seconds // 60)} min {int(seconds % 60)} s"


class DateFilter(admin.DateFieldListFilter):
    """Filter by day; its title is the column without "at"."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.title = str(self.title).removesuffix(" at")


class WatchedAdmin(admin.ModelAdmin):
    """Rows that the product writes and their owners look at; superusers see all."""

    empty_value_display = EMPTY
    list_per_page = 50
    show_full_result_count = False

    def visible(self, rows: QuerySet[Any], user: Any) -> QuerySet[Any]:
        """Return those of ``rows`` that belong to executions of ``user``, who is not a superuser."""
        raise NotImplementedError

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Return the rows that the user may see."""
        rows = super().get_queryset(request)
        return rows if request.user.is_superuser else self.visible(rows, request.user)

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
    return Recording.objects.visible_to(user).filter(execution_id__isnull=False).values("execution_id")


@admin.register(Recording)
class RecordingAdmin(WatchedAdmin):
    """List of recordings; the page of one shows its events."""

    list_display = ("workflow_text", "status_pill", "error_line", "started", "length", "events", "size")
    list_filter = ("status", "trigger", ("started_at", DateFilter), ("sealed", admin.EmptyFieldListFilter))
    search_fields = ("workflow_name", "error", "id", "execution_id")
    ordering = ("-started_at",)
    empty_text = "Every execution is recorded when it ends. Run a workflow, then step through it here."

    def visible(self, rows: QuerySet[Recording], user: Any) -> QuerySet[Recording]:
        """Return the recordings of ``user``."""
        return rows.filter(user_id=user.pk)

    @admin.display(description="Recording", ordering="workflow_name")
    def workflow_text(self, recording: Recording) -> SafeString:
        """Show the workflow, the version and the start of the id."""
        return format_html(
            '{}<span class="adm-second"><span class="adm-mono">{}</span> · {}</span>',
            recording.workflow_name,
            str(recording.pk)[:8],
            self.version_text(recording),
        )

    @admin.display(description="Status", ordering="status")
    def status_pill(self, recording: Recording) -> SafeString | str:
        """Show how the execution ended."""
        return status_pill(recording.status)

    @admin.display(description="Cause", ordering="error")
    def error_line(self, recording: Recording) -> SafeString | str:
        """Show why it failed, in one line."""
        line = recording.error.strip().partition("\n")[0]
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
        return EMPTY if recording.version_number is None else f"v{recording.version_number}"

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

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show one recording and a page of its events."""
        from recordings.database import iter_events

        recording: Recording | None = self.get_object(request, object_id)
        if recording is None:
            raise Http404("there is no such recording")
        after = request.GET.get("after", "0")
        start = min(int(after), recording.event_count) if after.isascii() and after.isdigit() and len(after) < 10 else 0
        events: list[RecordingEvent] = []
        if recording.execution_id is not None:
            events = list(islice(iter_events(recording.execution_id, start), EVENTS_PER_PAGE))
        last = events[-1].seq if events else start
        context = {
            **self.admin_site.each_context(request),
            "title": f"Recording of {recording.workflow_name}",
            "opts": self.opts,
            "recording": recording,
            "short_id": str(recording.pk)[:8],
            "status": status_pill(recording.status),
            "facts": self._facts(recording),
            "events": [_event(event) for event in events],
            "first": events[0].seq if events else 0,
            "last": last,
            "previous": max(0, start - EVENTS_PER_PAGE) if start else None,
            "next": last if len(events) == EVENTS_PER_PAGE and last < recording.event_count else None,
            "execution_url": self._execution_url(recording),
        }
        return TemplateResponse(request, "admin/recordings/recording/change_form.html", context)

    def _facts(self, recording: Recording) -> list[tuple[str, Any]]:
        return [
            ("Version", self.version_text(recording)),
            (
                "Trigger",
                {"api": "API"}.get(recording.trigger, recording.trigger.replace("_", " ").capitalize()) or EMPTY,
            ),
            ("Started", date_format(timezone.localtime(recording.started_at), "j M Y, H:i:s")),
            ("Duration", self.length(recording)),
            ("Events", f"{recording.event_count:,}"),
            ("Nodes", recording.node_count),
            ("Credits", recording.credits),
            ("Size", self.size(recording)),
            ("Kept as", self.kept(recording)),
            ("Tags", ", ".join(map(str, recording.tags)) or EMPTY),
            (
                "Checksum",
                format_html(
                    '<span class="adm-mono" title="{}">{}</span>', recording.checksum, recording.checksum[:16] or EMPTY
                ),
            ),
            ("Id", format_html('<span class="adm-mono">{}</span>', recording.pk)),
        ]

    def _execution_url(self, recording: Recording) -> str:
        """Return the address of the execution's page; empty when there is none."""
        if recording.execution_id is None:
            return ""
        return reverse("admin:executions_execution_change", args=(recording.execution_id,))


def _event(event: RecordingEvent) -> dict[str, Any]:
    """Return what the event table shows."""
    data = {key: value for key, value in event.data.items() if key not in ("name", "node_type")}
    text = json.dumps(data, ensure_ascii=False, default=str) if data else ""
    return {
        "seq": event.seq,
        "time": datetime.fromtimestamp(event.timestamp, UTC),
        "type": event.event_type.value.replace("_", " "),
        "failed": event.event_type.value in ("node_error", "workflow_error"),
        "text": describe(event),
        "node": event.data.get("name") or event.node_id or EMPTY,
        "data": text if len(text) <= 2_000 else f"{text[:2_000]}… ({len(text):,} characters)",
    }


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
