"""Channels: where people are told. Addresses of hooks and secrets can be replaced, never read."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db.models import Count, OuterRef, QuerySet, Subquery
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.urls import URLPattern, path, reverse
from django.utils.safestring import SafeString

from monitoring.admin.words import message_pill, message_row
from monitoring.alerts import channels, tryout
from monitoring.alerts.errors import AlertRefused
from monitoring.models import AlertChannel, AlertMessage
from workflows import access
from workflows.admin.cells import EMPTY, button, status_pill
from workflows.admin.filters import OwnerFilter
from workflows.admin.owned import OwnedAdmin
from workflows.errors import WorkflowError

MESSAGES_SHOWN = 20


class ChannelForm(forms.ModelForm):
    """A channel; of an address that may be a secret, what is stored is not shown."""

    user: Any = None
    """Who asks; set per request."""

    address = forms.CharField(
        required=False,
        widget=forms.TextInput(attrs={"class": "vTextField", "autocomplete": "off", "spellcheck": "false"}),
        help_text="A mail address; for webhooks and Slack the address that is called, beginning with https://.",
    )
    secret = forms.CharField(
        required=False,
        strip=False,
        widget=forms.PasswordInput(attrs={"class": "vTextField", "autocomplete": "new-password"}),
        help_text="Signs what is sent, so that the other side can tell that it comes from here.",
    )
    forget_secret = forms.BooleanField(required=False, label="Send without a signature from now on")

    class Meta:
        model = AlertChannel
        fields = ("name", "kind", "enabled")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Show of what is stored as much as people may see."""
        super().__init__(*args, **kwargs)
        channel: AlertChannel = self.instance
        if channel._state.adding:
            channel.owner = self.user
            self.fields.pop("forget_secret", None)
        elif channel.kind == AlertChannel.Kind.EMAIL:
            self.initial["address"] = channel.address
        elif "address" in self.fields:
            self.fields["address"].widget.attrs["placeholder"] = f"{channel.address} – leave empty to keep it"
            self.fields["secret"].widget.attrs["placeholder"] = "leave empty to keep what is stored"

    def clean_name(self) -> str:
        """Refuse a second channel of the same name and owner."""
        name: str = self.cleaned_data["name"].strip()
        if AlertChannel.objects.filter(owner=self.instance.owner, name=name).exclude(pk=self.instance.pk).exists():
            raise ValidationError(f'There is already a channel named "{name}". Choose another name.')
        return name

    def clean(self) -> dict[str, Any]:
        """Refuse what ``channels`` refuses."""
        data = super().clean() or {}
        if self.errors:
            return data
        if data["kind"] != AlertChannel.Kind.WEBHOOK:
            data["secret"] = ""
        kept = not data["address"] and not self.instance._state.adding and self.initial["kind"] == data["kind"]
        wanted = channels.Opened(data["address"].strip(), data["secret"])
        for problem in channels.problems(data["name"], data["kind"], wanted):
            if not (kept and problem.field == "address"):
                self.add_error(problem.field, f"It {problem.message}.")
        return data

    def given(self) -> tuple[str | None, str | None]:
        """Return address and secret as they are to be stored; None for what stays as it is."""
        data = self.cleaned_data
        return data["address"] or None, "" if data.get("forget_secret") else data["secret"] or None


@admin.register(AlertChannel)
class AlertChannelAdmin(OwnedAdmin):
    """Where people are told."""

    form = ChannelForm
    list_display = ("name", "kind", "address", "state", "last", "used")
    list_filter = ("kind", "enabled", OwnerFilter)
    search_fields = ("name", "address")
    ordering = ("name",)
    change_form_template = "admin/monitoring/alertchannel/change_form.html"
    empty_text = "A channel is where rules tell you: a mail address, a webhook, a channel of Slack."

    def get_fieldsets(self, request: HttpRequest, obj: AlertChannel | None = None) -> Any:
        """Offer to forget the secret of what there is."""
        forget = ("forget_secret",) if obj else ()
        return ((None, {"fields": ("name", "kind", "address", "secret", *forget, "enabled")}),)

    def get_queryset(self, request: HttpRequest) -> Any:
        """Return the channels with what their columns need; what is sealed is not loaded."""
        newest = AlertMessage.objects.filter(channel=OuterRef("pk")).order_by("-created_at")
        rows: Any = super().get_queryset(request).select_related("owner").defer("data")
        return rows.annotate(rule_count=Count("rules"), last_status=Subquery(newest.values("status")[:1]))

    def get_form(
        self, request: HttpRequest, obj: AlertChannel | None = None, change: bool = False, **kwargs: Any
    ) -> Any:
        """Return the form, which knows who asks."""
        kwargs["fields"] = ChannelForm.Meta.fields
        form: Any = super().get_form(request, obj, change=change, **kwargs)
        form.user = request.user
        return form

    def get_list_display(self, request: HttpRequest) -> Any:
        """People who see those of others also see whose channel it is."""
        columns = super().get_list_display(request)
        return [*columns, "owner"] if access.sees_everything(request.user) else columns

    # -------------------------------------------------------------- storing
    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Say what a form cannot know before it stores."""
        try:
            return super().changeform_view(request, *args, **kwargs)
        except WorkflowError as error:
            self.message_user(request, str(error), messages.ERROR)
            return HttpResponseRedirect(request.path)

    def save_model(self, request: HttpRequest, obj: AlertChannel, form: Any, change: bool) -> None:
        """Store the channel, noted in the audit log."""
        address, secret = form.given()
        row = AlertChannel.objects.get(pk=obj.pk) if change else None
        stored = channels.save(obj.owner, obj.name, obj.kind, address, secret, enabled=obj.enabled, channel=row)
        obj.pk, obj._state.adding = stored.pk, False

    # -------------------------------------------------------------- trying
    def get_urls(self) -> list[URLPattern]:
        """Add the address that tries a channel."""
        view = self.admin_site.admin_view(self.try_out)
        return [path("<uuid:pk>/test/", view, name="monitoring_alertchannel_test"), *super().get_urls()]

    def try_out(self, request: HttpRequest, pk: Any) -> HttpResponse:
        """Send a test message, say what became of it, and show the page of the channel again."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        channel = get_object_or_404(self.get_queryset(request), pk=pk)
        try:
            problem = tryout.send(channel)
        except AlertRefused as error:
            problem = str(error)
        if problem:
            self.message_user(request, f"The test message did not arrive: {problem}", messages.ERROR)
        else:
            self.message_user(request, f"The test message was taken by {channel.address}.", messages.SUCCESS)
        return HttpResponseRedirect(reverse("admin:monitoring_alertchannel_change", args=(channel.pk,)))

    # -------------------------------------------------------------- deleting and showing
    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        """Say what deleting means."""
        told = [f'The channel "{channel.name}" is deleted; rules that name it tell the others.' for channel in objs]
        return told, {}, set(), []

    def delete_model(self, request: HttpRequest, obj: AlertChannel) -> None:
        """Delete it, noted in the audit log."""
        channels.delete(obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[AlertChannel]) -> None:
        """Delete each, noted in the audit log."""
        for channel in queryset:
            channels.delete(channel)

    def render_change_form(self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Add the newest messages."""
        channel: AlertChannel | None = kwargs.get("obj")
        if channel is not None:
            sent = channel.messages.select_related("alert").order_by("-created_at", "event")[:MESSAGES_SHOWN]
            context |= {"state": self.state(channel), "sent": [message_row(message) for message in sent]}
            if access.can(request.user, "change", channel):
                url = reverse("admin:monitoring_alertchannel_test", args=(channel.pk,))
                context["test_button"] = button(url, "Send a test message", icon="send", post=True, css="")
        return super().render_change_form(request, context, *args, **kwargs)

    # -------------------------------------------------------------- columns
    @admin.display(description="Status", ordering="enabled")
    def state(self, channel: AlertChannel) -> SafeString:
        """Say whether anything is sent."""
        return status_pill("active", "On") if channel.enabled else status_pill("skipped", "Off")

    @admin.display(description="Newest message")
    def last(self, channel: Any) -> SafeString | str:
        """Say what became of the newest message."""
        return message_pill(channel.last_status) if channel.last_status else EMPTY

    @admin.display(description="Rules", ordering="rule_count")
    def used(self, channel: Any) -> str:
        """Say how many rules name it."""
        return str(channel.rule_count)
