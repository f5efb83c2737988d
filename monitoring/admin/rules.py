"""Rules: what is too much of something, and whom to tell."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import uuid4

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from monitoring.admin.alerts import handle_silence
from monitoring.admin.words import SILENCES, alert_pill, condition_text, number, severity_text, silence_buttons
from monitoring.alerts import inbox, rules, trial
from monitoring.alerts.errors import AlertRefused
from monitoring.alerts.measures import span
from monitoring.models import Alert, AlertChannel, AlertRule
from workflows import access
from workflows.admin.cells import EMPTY, button, moment, status_pill
from workflows.admin.filters import OwnerFilter, WorkflowFilter
from workflows.admin.owned import OwnedAdmin
from workflows.models import Workflow

ALERTS_SHOWN = 10
CHART_WIDTH, LEAST_WIDTH = 1000.0, 2.0
IN_FORM = {"window_s": "window_minutes", "for_s": "for_minutes", "": None}
"""What the form calls the fields of a rule, where it has another name for them."""


def _thresholds() -> SafeString:
    """Return for each kind what its threshold counts; the style sheet shows that of the chosen one only."""
    return format_html_join(
        "",
        '<span class="adm-kind-{}">In {}. {}</span>',
        ((name, "percent" if kind.unit == "%" else kind.unit, kind.help) for name, kind in rules.KINDS.items()),
    )


class RuleForm(forms.ModelForm):
    """A rule; the style sheet shows the fields that its kind has."""

    user: Any = None
    """Who asks; set per request."""

    window_minutes = forms.IntegerField(
        label="Looks back, in minutes", initial=15, help_text="What happened in so many minutes before now is counted."
    )
    for_minutes = forms.IntegerField(
        label="Must last, in minutes", initial=0, help_text="0: it fires as soon as there is too much."
    )

    class Meta:
        model = AlertRule
        fields = (
            "name", "kind", "workflow", "everyone", "subject", "threshold", "minimum_runs", "severity", "channels", "enabled",
        )  # fmt: skip
        widgets = {"channels": forms.CheckboxSelectMultiple}
        labels = {
            "everyone": "Workflows of everybody",
            "subject": "Only",
            "minimum_runs": "From so many runs on",
            "channels": "Tells",
        }
        help_texts = {
            "workflow": "",
            "channels": "Without a channel nobody is told; what fires is listed under Alerts.",
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Offer what the owner of the rule may watch and tell."""
        super().__init__(*args, **kwargs)
        rule: AlertRule = self.instance
        if rule._state.adding:
            rule.owner = self.user
        else:
            self.initial.update(window_minutes=rule.window_s // 60, for_minutes=rule.for_s // 60)
            self.initial["threshold"] = int(rule.threshold) if rule.threshold.is_integer() else rule.threshold
        if "kind" not in self.fields:
            return  # of somebody who only looks
        everything = access.sees_everything(rule.owner)
        self.fields["kind"].choices = [  # type: ignore[attr-defined]
            (name, kind.label) for name, kind in rules.KINDS.items() if everything or not kind.installation
        ]
        watched = Workflow.objects.visible_to(rule.owner).exclude(status=Workflow.Status.ARCHIVED)
        self.fields["workflow"].queryset = watched.order_by("name")  # type: ignore[attr-defined]
        self.fields["workflow"].empty_label = "All workflows of the owner"  # type: ignore[attr-defined]
        self.fields["channels"].queryset = AlertChannel.objects.filter(owner=rule.owner)  # type: ignore[attr-defined]
        self.fields["threshold"].help_text = _thresholds()

    def clean_name(self) -> str:
        """Refuse a second rule of the same name and owner."""
        name: str = self.cleaned_data["name"].strip()
        if AlertRule.objects.filter(owner=self.instance.owner, name=name).exclude(pk=self.instance.pk).exists():
            raise ValidationError(f'There is already a rule named "{name}". Choose another name.')
        return name

    def clean(self) -> dict[str, Any]:
        """Forget what the chosen kind does not have."""
        data = super().clean() or {}
        kind = rules.KINDS.get(data.get("kind", ""))
        if kind is not None and kind.installation:
            data |= {"workflow": None, "everyone": False}
        if kind is not None and kind.subjects is None:
            data["subject"] = ""
        return data

    def _post_clean(self) -> None:
        """Refuse what ``rules`` refuses."""
        super()._post_clean()  # type: ignore[misc]
        if self.errors:
            return
        data, rule = self.cleaned_data, self.instance
        rule.window_s, rule.for_s = data["window_minutes"] * 60, data["for_minutes"] * 60
        for problem in rules.problems(rule, data["channels"]):
            self.add_error(IN_FORM.get(problem.field, problem.field), f"It {problem.message}.")


class TrialForm(forms.Form):
    """With which threshold, and how far back, a rule is tried."""

    threshold = forms.FloatField(min_value=0, max_value=1e15)
    days = forms.IntegerField(min_value=1, max_value=trial.LONGEST_DAYS)


@admin.register(AlertRule)
class AlertRuleAdmin(OwnedAdmin):
    """Rules that raise alerts."""

    form = RuleForm
    list_display = ("name", "state", "condition", "about", "severity_text", "told", "row_actions")
    list_filter = ("kind", "enabled", "severity", WorkflowFilter, OwnerFilter)
    search_fields = ("name", "workflow__name")
    ordering = ("name",)
    actions = ("enable", "disable")
    change_form_template = "admin/monitoring/alertrule/change_form.html"
    empty_text = "A rule says what is too much: of failed runs, of waiting messages, of credits. You are told once, and again when it is over."

    def get_queryset(self, request: HttpRequest) -> Any:
        """Return the rules with what their columns need."""
        rows: Any = super().get_queryset(request).select_related("owner", "workflow").prefetch_related("channels")
        return rows.annotate(firing=inbox.firing_of_rule()).defer("workflow__settings", "workflow__description")

    def get_fieldsets(self, request: HttpRequest, obj: AlertRule | None = None) -> Any:
        """Ask about everybody's workflows only where the owner of the rule may see them."""
        everyone = ("everyone",) if access.sees_everything(obj.owner if obj else request.user) else ()
        return (
            (None, {"fields": ("name", "kind", "workflow", *everyone, "subject")}),
            ("Too much", {"fields": ("threshold", "window_minutes", "minimum_runs", "for_minutes")}),
            ("Then", {"fields": ("severity", "channels", "enabled")}),
        )

    def get_form(self, request: HttpRequest, obj: AlertRule | None = None, change: bool = False, **kwargs: Any) -> Any:
        """Return the form, which knows who asks."""
        if kwargs.get("fields") is not None:
            kwargs["fields"] = [name for name in kwargs["fields"] if name in RuleForm.Meta.fields]
        form: Any = super().get_form(request, obj, change=change, **kwargs)
        form.user = request.user
        return form

    def get_list_display(self, request: HttpRequest) -> Any:
        """People who see those of others also see whose rule it is."""
        columns = super().get_list_display(request)
        return [*columns[:-1], "owner", columns[-1]] if access.sees_everything(request.user) else columns

    # -------------------------------------------------------------- storing
    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Say what a form cannot know before it stores."""
        try:
            return super().changeform_view(request, *args, **kwargs)
        except AlertRefused as error:
            self.message_user(request, str(error), messages.ERROR)
            return HttpResponseRedirect(request.path)

    def save_model(self, request: HttpRequest, obj: AlertRule, form: Any, change: bool) -> None:
        """Store the rule, noted in the audit log."""
        rules.save(obj, form.cleaned_data["channels"])

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        """Say what deleting means."""
        return [f'The rule "{rule.name}" is deleted; what it raised is resolved.' for rule in objs], {}, set(), []

    def delete_model(self, request: HttpRequest, obj: AlertRule) -> None:
        """Delete it, noted in the audit log."""
        rules.delete(obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[AlertRule]) -> None:
        """Delete each, noted in the audit log."""
        for rule in queryset:
            rules.delete(rule)

    @admin.action(description="Switch on", permissions=("change",))
    def enable(self, request: HttpRequest, chosen: QuerySet[AlertRule]) -> None:
        """Look again."""
        self._switch(request, chosen, enabled=True)

    @admin.action(description="Switch off", permissions=("change",))
    def disable(self, request: HttpRequest, chosen: QuerySet[AlertRule]) -> None:
        """Look no more; what fires is resolved."""
        self._switch(request, chosen, enabled=False)

    def _switch(self, request: HttpRequest, chosen: QuerySet[AlertRule], *, enabled: bool) -> None:
        for rule in chosen:
            rule.enabled = enabled
            try:
                rules.save(rule, edited=("enabled",))
            except AlertRefused as error:
                self.message_user(request, str(error), messages.ERROR)
                continue
            self.message_user(
                request, f'The rule "{rule.name}" is switched {"on" if enabled else "off"}.', messages.SUCCESS
            )

    # -------------------------------------------------------------- handling
    def get_urls(self) -> list[URLPattern]:
        """Add the addresses that silence one rule, and that say what it would have done."""
        view = self.admin_site.admin_view
        return [
            path("<uuid:pk>/handle/<slug:verb>/", view(self.handle), name="monitoring_alertrule_handle"),
            path("<uuid:pk>/test/", view(self.try_out), name="monitoring_alertrule_test"),
            path("test/", view(self.try_form), name="monitoring_alertrule_test_new"),
            *super().get_urls(),
        ]

    def try_out(self, request: HttpRequest, pk: Any) -> HttpResponse:
        """Show what one rule would have done in the last days, with the threshold that is asked for.

        A form that is posted is tried instead of what is stored.
        """
        if request.method == "POST":
            return self.try_form(request, pk)
        if request.method != "GET":
            return HttpResponseNotAllowed(["GET", "POST"])
        rule = get_object_or_404(self.get_queryset(request), pk=pk)
        form = TrialForm(
            request.GET
            if "threshold" in request.GET
            else {"threshold": f"{rule.threshold:g}", "days": trial.LONGEST_DAYS}
        )
        return self._show_trial(request, rule, form)

    def try_form(self, request: HttpRequest, pk: Any = None) -> HttpResponse:
        """Show what the rule in a form that is not stored would have done; nothing is stored."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        stored = get_object_or_404(self.get_queryset(request), pk=pk) if pk else None
        posted = request.POST.copy()
        posted["name"] = uuid4().hex  # the name makes no difference, so none and one that is taken are fine
        filled: Any = self.get_form(request, stored, change=stored is not None)(posted, instance=stored)
        days = request.POST.get("days", trial.LONGEST_DAYS)
        form = TrialForm({"threshold": request.POST.get("threshold"), "days": days})
        rule: AlertRule = filled.instance
        problems = [] if filled.is_valid() else _problems(filled)
        rule.name = request.POST.get("name", "")
        carried = [
            (name, value)
            for name, values in request.POST.lists()
            if name in {*filled.fields, "name"} - set(form.fields)
            for value in values
        ]
        return self._show_trial(request, rule, form, problems=problems, carried=carried, unsaved=True)

    def _show_trial(self, request: HttpRequest, rule: AlertRule, form: TrialForm, **more: Any) -> HttpResponse:
        found = None
        fits = not more.get("problems")
        if fits and form.is_valid():
            rule.threshold = form.cleaned_data["threshold"]
            try:
                found = trial.rule_test(rule, form.cleaned_data["days"])
            except AlertRefused as error:
                self.message_user(request, str(error), messages.ERROR)
        kind = rules.KINDS.get(rule.kind)
        context = {
            **self.admin_site.each_context(request),
            "title": "What it would have done",
            "opts": self.opts,
            "rule": rule,
            "stored": not rule._state.adding,
            "condition": condition_text(rule) if fits else "",
            "unit": kind.unit if kind else "",
            "form": form,
            "found": found,
            **(_shown(found, rules.KINDS[rule.kind]) if found else {}),
            **more,
        }
        return TemplateResponse(request, "admin/monitoring/alertrule/test.html", context)

    def handle(self, request: HttpRequest, pk: Any, verb: str) -> HttpResponse:
        """Silence one rule or end its silence, and show its page again."""
        if verb not in ("unsilence", *SILENCES):
            raise Http404("there is no such page")
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        rule = get_object_or_404(self.get_queryset(request), pk=pk)
        handle_silence(self, request, rule, verb)
        return HttpResponseRedirect(reverse("admin:monitoring_alertrule_change", args=(rule.pk,)))

    def render_change_form(self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Add the status, what can be done, and the newest alerts."""
        rule: AlertRule | None = kwargs.get("obj")
        if self.has_change_permission(request, rule):
            test = ("monitoring_alertrule_test", rule.pk) if rule else ("monitoring_alertrule_test_new",)
            context["test_address"] = reverse(f"admin:{test[0]}", args=test[1:])
        if rule is not None:
            context |= {
                "state": self.state(rule),
                "buttons": self._buttons(rule) if access.can(request.user, "change", rule) else [],
                "test_link": self._test_link(rule, "Test on last week", ""),
                "alerts": [_alert_row(alert) for alert in rule.alerts.order_by("-opened_at", "-pk")[:ALERTS_SHOWN]],
            }
        return super().render_change_form(request, context, *args, **kwargs)

    def _buttons(self, rule: AlertRule) -> list[SafeString]:
        address = reverse("admin:monitoring_alertrule_handle", args=(rule.pk, "verb")).replace("verb", "{}")
        return [silence_buttons(rule, address)]

    @staticmethod
    def _test_link(rule: AlertRule, text: str, css: str) -> SafeString:
        return button(reverse("admin:monitoring_alertrule_test", args=(rule.pk,)), text, icon="monitor", css=css)

    @admin.display(description="")
    def row_actions(self, rule: AlertRule) -> SafeString:
        """Lead to what it would have done."""
        return format_html('<div class="adm-row-actions">{}</div>', self._test_link(rule, "Test", "small"))

    # -------------------------------------------------------------- columns
    @admin.display(description="Status")
    def state(self, rule: Any) -> SafeString:
        """Say whether it finds too much now, and whether anybody hears of it."""
        if not rule.enabled:
            return status_pill("skipped", "Off")
        pill = status_pill("failed", f"{rule.firing} firing") if rule.firing else status_pill("completed", "Quiet")
        if inbox.is_silenced(rule):
            return format_html(
                '{}<span class="adm-second adm-nowrap">silence ends {}</span>', pill, moment(rule.silenced_until)
            )
        return pill

    @admin.display(description="Fires at", ordering="kind")
    def condition(self, rule: AlertRule) -> SafeString:
        """Say what is too much."""
        return condition_text(rule)

    @admin.display(description="About", ordering="workflow__name")
    def about(self, rule: AlertRule) -> SafeString | str:
        """Say what is watched."""
        if rule.workflow is not None:
            return rule.workflow.name
        if rules.KINDS[rule.kind].installation:
            return rule.subject or "The installation"
        return "All workflows" if rule.everyone else "Own workflows"

    @admin.display(description="Severity", ordering="severity")
    def severity_text(self, rule: AlertRule) -> SafeString:
        """Say how bad it is."""
        return severity_text(rule)

    @admin.display(description="Tells")
    def told(self, rule: AlertRule) -> SafeString | str:
        """Name the channels."""
        return ", ".join(channel.name for channel in rule.channels.all()) or EMPTY


def _problems(form: forms.BaseForm) -> list[str]:
    """Return what is wrong with a form, each with the name that people see."""
    return [
        f"{form[name].label}: {text}" if name in form.fields else str(text)
        for name, texts in form.errors.items()
        for text in texts
    ]


def _shown(found: trial.Trial, kind: rules.Description) -> dict[str, Any]:
    """Return a trial as words, bars of a chart and rows of a table."""
    length = (found.until - found.since).total_seconds()

    def place(moment: datetime) -> float:
        return round((moment - found.since).total_seconds() / length * CHART_WIDTH, 2)

    bars = []
    for firing in found.firings:
        start, end = place(firing.began_at), place(firing.ended_at or found.until)
        bars.append({"firing": firing, "x": start, "width": max(end - start, LEAST_WIDTH)})
    return {
        "highest": None if found.highest is None else f"{number(found.highest)} {kind.unit_of(found.highest)}",
        "unknown": place(found.known_since) if found.known_since else CHART_WIDTH,
        "bars": bars,
        "firings": [
            {
                "began": moment(firing.began_at),
                "lasted": span(
                    max(60, int(((firing.ended_at or found.until) - firing.began_at).total_seconds()) // 60 * 60)
                ),
                "goes_on": firing.ended_at is None,
                "message": firing.message,
                "worst": f"{number(firing.worst)} {kind.unit_of(firing.worst)}",
            }
            for firing in found.firings
        ],
    }


def _alert_row(alert: Alert) -> dict[str, Any]:
    return {
        "url": reverse("admin:monitoring_alert_change", args=(alert.pk,)),
        "state": alert_pill(alert),
        "message": alert.message,
        "since": moment(alert.opened_at),
        "until": moment(alert.resolved_at),
    }
