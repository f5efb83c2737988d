"""The inbox: what fires, who takes care of it, what was said to whom."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString, mark_safe

from monitoring.admin.words import SILENCES, alert_pill, message_row, number, severity_text, silence_buttons
from monitoring.alerts import inbox, rules
from monitoring.models import Alert, AlertRule
from workflows import access
from workflows.admin.cells import EMPTY, button, moment
from workflows.admin.filters import DateFilter, OwnerFilter, WorkflowFilter
from workflows.admin.owned import ReadOnlyAdmin

MESSAGES_SHOWN = 100


class StateFilter(admin.SimpleListFilter):
    """How far an alert is; without a choice those that fire."""

    title = parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Offer what an alert can be."""
        return [*((state, state.capitalize()) for state in inbox.STATES if state != "firing"), ("all", "All")]

    def choices(self, changelist: Any) -> Any:
        """Name what is shown when nothing is chosen."""
        for index, choice in enumerate(super().choices(changelist)):
            yield {**choice, "display": "Firing"} if index == 0 else choice

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Keep the alerts of the chosen state."""
        chosen = self.value() or "firing"
        return queryset.filter(inbox.STATES[chosen]) if chosen in inbox.STATES else queryset


@admin.register(Alert)
class AlertAdmin(ReadOnlyAdmin):
    """What rules raised: the inbox, and a page for each alert."""

    list_display = ("subject", "state", "severity_text", "workflow_link", "opened", "lasted", "row_actions")
    list_display_links = ("subject",)
    list_filter = (StateFilter, "severity", "kind", WorkflowFilter, ("opened_at", DateFilter), OwnerFilter)
    search_fields = ("rule_name", "message", "workflow_name")
    ordering = ("-opened_at", "-id")
    actions = ("acknowledge",)
    empty_title = "Nothing fires"
    empty_text = mark_safe(
        "When a rule finds too much of something, it shows up here, once, until it is over. "
        '<a href="../alertrule/">See what is watched</a>, or <a href="../alertrule/add/">make a rule</a>.'
    )
    change_form_template = "admin/monitoring/alert/change_form.html"
    fields = (
        "rule_link", "workflow_link", "owner", "found", "severity_text", "opened", "seen", "resolved_text", "acknowledged_text",
    )  # fmt: skip
    readonly_fields = fields

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Return the alerts with what their columns and buttons need."""
        rows = super().get_queryset(request).select_related("rule", "owner", "acknowledged_by", "workflow")
        return rows.defer("rule__holding", "workflow__settings", "workflow__description")

    def get_list_display(self, request: HttpRequest) -> Any:
        """People who see those of others also see whose alert it is."""
        columns = super().get_list_display(request)
        return [*columns[:-1], "owner", columns[-1]] if access.sees_everything(request.user) else columns

    def has_acknowledge_permission(self, request: HttpRequest) -> bool:
        """Whoever sees an alert of theirs may take care of it."""
        return self.has_view_permission(request)

    # -------------------------------------------------------------- columns and fields
    @admin.display(description="Alert", ordering="rule_name")
    def subject(self, alert: Alert) -> SafeString:
        """Name the rule, and below what it found."""
        return format_html('{}<span class="adm-second">{}</span>', alert.rule_name, alert.message)

    @admin.display(description="Status", ordering="status")
    def state(self, alert: Alert) -> SafeString:
        """Say whether it goes on, and whether somebody takes care of it."""
        if alert.status == Alert.Status.FIRING and alert.rule is not None and inbox.is_silenced(alert.rule):
            return format_html('{}<span class="adm-second">silenced</span>', alert_pill(alert))
        return alert_pill(alert)

    @admin.display(description="Severity", ordering="severity")
    def severity_text(self, alert: Alert) -> SafeString:
        """Say how bad it is."""
        return severity_text(alert)

    @admin.display(description="Workflow", ordering="workflow_name")
    def workflow_link(self, alert: Alert) -> SafeString | str:
        """Lead to the workflow that it is about."""
        if alert.workflow is None:
            return alert.workflow_name or EMPTY
        url = reverse("admin:workflows_workflow_change", args=(alert.workflow_id,))
        return format_html('<a href="{}">{}</a>', url, alert.workflow.name)

    @admin.display(description="Rule")
    def rule_link(self, alert: Alert) -> SafeString | str:
        """Lead to the rule that raised it."""
        if alert.rule is None:
            return f"{alert.rule_name} (deleted)"
        url = reverse("admin:monitoring_alertrule_change", args=(alert.rule_id,))
        return format_html('<a href="{}">{}</a>', url, alert.rule_name)

    @admin.display(description="Found")
    def found(self, alert: Alert) -> str:
        """Say how much of what it was, and from where on it is too much."""
        kind = rules.KINDS[alert.kind]
        of = f" ({alert.key})" if alert.key else ""
        value = f"{number(alert.value)} {kind.unit_of(alert.value)}"
        return f"{value}{of}; too much is {number(alert.threshold)} {kind.unit_of(alert.threshold)}"

    @admin.display(description="Resolved")
    def resolved_text(self, alert: Alert) -> SafeString | str:
        """Say when it was over, and why, when it was not because the value fell."""
        if alert.resolved_at is None:
            return EMPTY
        return (
            format_html("{}, because {}", moment(alert.resolved_at), alert.reason)
            if alert.reason
            else moment(alert.resolved_at)
        )

    @admin.display(description="Acknowledged")
    def acknowledged_text(self, alert: Alert) -> SafeString | str:
        """Say who takes care of it, and since when."""
        if alert.acknowledged_at is None:
            return EMPTY
        who = alert.acknowledged_by.get_username() if alert.acknowledged_by else "somebody"
        return format_html("by {}, {}", who, moment(alert.acknowledged_at))

    @admin.display(description="Since", ordering="opened_at")
    def opened(self, alert: Alert) -> SafeString | str:
        """Say when it was raised."""
        return moment(alert.opened_at)

    @admin.display(description="Seen last")
    def seen(self, alert: Alert) -> SafeString | str:
        """Say when there was too much for the last time."""
        return moment(alert.last_seen_at)

    @admin.display(description="Until", ordering="resolved_at")
    def lasted(self, alert: Alert) -> SafeString | str:
        """Say when it was over."""
        return moment(alert.resolved_at)

    @admin.display(description="")
    def row_actions(self, alert: Alert) -> SafeString | str:
        """Offer to take care of a new one."""
        return (
            format_html('<div class="adm-row-actions">{}</div>', self._acknowledge_button(alert))
            if inbox.is_new(alert)
            else ""
        )

    def _acknowledge_button(self, alert: Alert, css: str = "small") -> SafeString:
        return button(_address(alert, "acknowledge"), "Acknowledge", icon="check", post=True, css=css)

    # -------------------------------------------------------------- handling
    @admin.action(description="Acknowledge", permissions=("acknowledge",))
    def acknowledge(self, request: HttpRequest, chosen: QuerySet[Alert]) -> None:
        """Take care of the chosen alerts."""
        count = sum(inbox.acknowledge(alert, request.user) for alert in chosen)
        told = f"You take care of {count} alert{'' if count == 1 else 's'} now."
        self.message_user(request, told, messages.SUCCESS if count else messages.WARNING)

    def get_urls(self) -> list[URLPattern]:
        """Add the address that handles one alert."""
        view = self.admin_site.admin_view(self.handle)
        return [path("<uuid:pk>/handle/<slug:verb>/", view, name="monitoring_alert_handle"), *super().get_urls()]

    def handle(self, request: HttpRequest, pk: Any, verb: str) -> HttpResponse:
        """Acknowledge one alert, or silence its rule, and show its page again."""
        if verb not in ("acknowledge", "unsilence", *SILENCES):
            raise Http404("there is no such page")
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        alert = get_object_or_404(self.get_queryset(request), pk=pk)
        if verb == "acknowledge":
            self._acknowledge(request, alert)
        elif alert.rule is None:
            self.message_user(request, "The rule is deleted: there is nothing to silence.", messages.WARNING)
        else:
            handle_silence(self, request, alert.rule, verb)
        return HttpResponseRedirect(reverse("admin:monitoring_alert_change", args=(alert.pk,)))

    def _acknowledge(self, request: HttpRequest, alert: Alert) -> None:
        if inbox.acknowledge(alert, request.user):
            self.message_user(request, "You take care of this alert now.", messages.SUCCESS)
        else:
            self.message_user(request, "The alert is over, or somebody takes care of it already.", messages.WARNING)

    def render_change_form(self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Add the status, what can be done, and the messages."""
        alert: Alert | None = kwargs.get("obj")
        if alert is not None:
            sent = alert.messages.order_by("-created_at", "event")[:MESSAGES_SHOWN]
            context |= {
                "state": self.state(alert),
                "severity": severity_text(alert),
                "buttons": self._buttons(alert) if access.can(request.user, "change", alert) else [],
                "sent": [message_row(message) for message in sent],
            }
        return super().render_change_form(request, context, *args, **kwargs)

    def _buttons(self, alert: Alert) -> list[SafeString]:
        silence = [] if alert.rule is None else [silence_buttons(alert.rule, _address(alert, "{}"))]
        return [*silence, *([self._acknowledge_button(alert, "default")] if inbox.is_new(alert) else [])]


def _address(alert: Alert, verb: str) -> str:
    return reverse("admin:monitoring_alert_handle", args=(alert.pk, "verb")).replace("verb", verb)


def handle_silence(page: admin.ModelAdmin, request: HttpRequest, rule: AlertRule, verb: str) -> None:
    """Silence ``rule`` for as long as ``verb`` says, or let people be told again, and say so."""
    if verb == "unsilence":
        inbox.end_silence(rule)
        page.message_user(request, f'People are told of "{rule.name}" again.', messages.SUCCESS)
        return
    inbox.silence(rule, timedelta(hours=SILENCES[verb][1]))
    text = format_html('Nobody is told when "{}" fires; it is heard again {}.', rule.name, moment(rule.silenced_until))
    page.message_user(request, text, messages.SUCCESS)
