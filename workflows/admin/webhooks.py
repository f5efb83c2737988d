"""Addresses by which other systems start workflows: made here, their secret shown once, rotated, switched off."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from workflows import access, webhooks
from workflows.admin.cells import EMPTY, button, moment, status_pill
from workflows.admin.owned import OwnedAdmin
from workflows.errors import WebhookError
from workflows.models import Webhook, Workflow

SHOWN_DELIVERIES = 10


class WebhookForm(forms.ModelForm):
    """Name and methods of a webhook; of a new one the workflow, too."""

    user: Any = None
    """Who asks; set per request."""

    methods = forms.MultipleChoiceField(
        label="Methods",
        choices=[(method, method) for method in Webhook.METHODS],
        initial=["POST"],
        widget=forms.CheckboxSelectMultiple,
    )

    class Meta:
        model = Webhook
        fields = ("workflow", "name", "methods", "enabled")
        help_texts = {"name": "Who sends it, for example the shop."}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "workflow" in self.fields:
            self.fields["workflow"].queryset = Workflow.objects.changeable_by(self.user).order_by("name")  # type: ignore[attr-defined]

    def clean(self) -> dict[str, Any]:
        """Refuse what ``webhooks`` refuses."""
        data = super().clean() or {}
        workflow = data.get("workflow") or (None if self.instance._state.adding else self.instance.workflow)
        if not self.errors and workflow is not None:
            but = None if self.instance._state.adding else self.instance
            try:
                webhooks.check(workflow, data["name"], data["methods"], but)
            except WebhookError as error:
                raise ValidationError(str(error)) from error
        return data


@admin.register(Webhook)
class WebhookAdmin(OwnedAdmin):
    """Webhooks of workflows; their secrets are shown once, when they are made."""

    owner_path = "workflow__owner"
    form = WebhookForm
    list_display = ("name", "workflow", "state", "received", "accepted", "refused")
    list_select_related = ("workflow__owner",)
    list_filter = ("enabled",)
    search_fields = ("name", "workflow__name")
    ordering = ("workflow__name", "name")
    readonly_fields = ("address", "test_address", "example", "secret_text", "received", "accepted", "refused", "latest")
    actions = ("enable", "disable")
    empty_text = "A webhook is an address by which another system starts a workflow, with requests that it signs."
    change_form_template = "admin/workflows/webhook/change_form.html"

    def get_fieldsets(self, request: HttpRequest, obj: Webhook | None = None) -> Any:
        """Ask of a new one whose it is and what it takes; show of others how they are used."""
        if obj is None:
            return ((None, {"fields": ("workflow", "name", "methods")}),)
        return (
            (None, {"fields": ("name", "methods", "enabled")}),
            ("Sending", {"fields": ("address", "test_address", "secret_text", "example")}),
            ("Received", {"fields": ("received", "accepted", "refused", "latest")}),
        )

    def get_form(self, request: HttpRequest, obj: Webhook | None = None, change: bool = False, **kwargs: Any) -> Any:
        """Return the form, which offers the workflows that the user may change."""
        form: Any = super().get_form(request, obj, change=change, **kwargs)
        form.user = request.user
        return form

    def get_changeform_initial_data(self, request: HttpRequest) -> Any:
        """Begin with the workflow that the address names, and with POST."""
        return {"methods": ["POST"], **super().get_changeform_initial_data(request)}

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Return the webhooks with their workflows, which say whose they are."""
        return super().get_queryset(request).select_related("workflow__owner")

    # -------------------------------------------------------------- making and changing
    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """Make the webhook, whose secret goes to the page that follows and nowhere else; or change it."""
        data = form.cleaned_data
        if change:
            webhooks.change(obj, name=data["name"], methods=data["methods"], enabled=data["enabled"])
            return
        made, obj.shown_once = webhooks.create(obj.workflow, data["name"], data["methods"])
        obj.__dict__.update({key: value for key, value in made.__dict__.items() if key != "_state"})
        obj._state.adding = False

    def response_add(self, request: HttpRequest, obj: Any, post_url_continue: str | None = None) -> HttpResponse:
        """Show the secret of the new webhook, once."""
        return self._made(request, obj, obj.shown_once, "Webhook made")

    def _made(self, request: HttpRequest, webhook: Webhook, secret: str, title: str) -> HttpResponse:
        context = {
            **self.admin_site.each_context(request),
            "title": title,
            "opts": self.opts,
            "webhook": webhook,
            "secret": secret,
            "url": webhooks.url_of(webhook),
            "example": webhooks.example(webhook, secret),
            "until": webhook.old_until and moment(webhook.old_until),
        }
        return TemplateResponse(request, "admin/workflows/webhook/made.html", context)

    def get_urls(self) -> list[URLPattern]:
        """Add the rotation."""
        view = self.admin_site.admin_view(self.rotate)
        return [path("<uuid:pk>/rotate/", view, name="workflows_webhook_rotate"), *super().get_urls()]

    def rotate(self, request: HttpRequest, pk: Any) -> HttpResponse:
        """Give a webhook a new secret and show it, once."""
        if request.method != "POST":
            get_object_or_404(self.get_queryset(request), pk=pk)
            return HttpResponseNotAllowed(["POST"])
        webhook = get_object_or_404(self.get_queryset(request), pk=pk)
        return self._made(request, webhook, webhooks.rotate(webhook), "New secret")

    def render_change_form(self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Say whether the secret can be rotated by who looks."""
        webhook = kwargs.get("obj")
        if webhook is not None and access.can(request.user, "change", webhook, self.owner_path):
            url = reverse("admin:workflows_webhook_rotate", args=(webhook.pk,))
            context["rotate_button"] = button(url, "New secret", icon="key", post=True, css="")
        context["show_save_and_add_another"] = False
        if webhook is None:
            context["show_save_and_continue"] = False
        return super().render_change_form(request, context, *args, **kwargs)

    # -------------------------------------------------------------- actions and deleting
    @admin.action(description="Switch on", permissions=("change",))
    def enable(self, request: HttpRequest, chosen: QuerySet[Webhook]) -> None:
        """Take requests again."""
        self._switch(request, chosen, enabled=True)

    @admin.action(description="Switch off", permissions=("change",))
    def disable(self, request: HttpRequest, chosen: QuerySet[Webhook]) -> None:
        """Answer as if there was no such address."""
        self._switch(request, chosen, enabled=False)

    def _switch(self, request: HttpRequest, chosen: QuerySet[Webhook], *, enabled: bool) -> None:
        for webhook in chosen:
            webhooks.change(webhook, enabled=enabled)
        count = len(chosen)
        words = f"{count} webhook{' is' if count == 1 else 's are'} switched {'on' if enabled else 'off'}."
        self.message_user(request, words, messages.SUCCESS)

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        """Say what deleting means."""
        told = [f'The webhook "{one.name}" is deleted; its address answers like one that never was.' for one in objs]
        return told, {}, set(), []

    def delete_model(self, request: HttpRequest, obj: Webhook) -> None:
        """Delete it, noted in the audit log."""
        webhooks.delete(obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Webhook]) -> None:
        """Delete each, noted in the audit log."""
        for webhook in queryset:
            webhooks.delete(webhook)

    # -------------------------------------------------------------- columns and fields
    def get_list_display(self, request: HttpRequest) -> Any:
        """People who see those of others also see whose it is."""
        columns = list(super().get_list_display(request))
        return [*columns, "owner"] if access.sees_everything(request.user) else columns

    @admin.display(description="Owner")
    def owner(self, webhook: Webhook) -> str:
        """Show whose workflow it starts."""
        return str(webhook.workflow.owner)

    @admin.display(description="Status", ordering="enabled")
    def state(self, webhook: Webhook) -> SafeString:
        """Say whether it takes requests."""
        return status_pill("active", "On") if webhook.enabled else status_pill("paused", "Off")

    @admin.display(description="Last request", ordering="last_received_at")
    def received(self, webhook: Webhook) -> SafeString | str:
        """Show when a request last came."""
        return moment(webhook.last_received_at)

    @admin.display(description="Address")
    def address(self, webhook: Webhook) -> SafeString:
        """Show where requests go."""
        return format_html('<span class="adm-mono" data-copy="the address">{}</span>', webhooks.url_of(webhook))

    @admin.display(description="Test address")
    def test_address(self, webhook: Webhook) -> SafeString:
        """Show where requests go that start the newest version."""
        return format_html(
            '<span class="adm-mono" data-copy="the test address">{}</span>', webhooks.url_of(webhook, test=True)
        )

    @admin.display(description="Example")
    def example(self, webhook: Webhook) -> SafeString:
        """Show a script that sends one."""
        return format_html('<pre class="adm-json" data-copy="the example">{}</pre>', webhooks.example(webhook))

    @admin.display(description="Latest")
    def latest(self, webhook: Webhook) -> SafeString | str:
        """Lead to the executions of the newest requests."""
        rows = webhook.deliveries.order_by("-received_at")[:SHOWN_DELIVERIES]
        links = [
            (reverse("admin:executions_execution_change", args=(row.execution_id,)), moment(row.received_at))
            for row in rows
        ]
        return format_html_join(", ", '<a href="{}">{}</a>', links) if links else EMPTY

    @admin.display(description="Secret")
    def secret_text(self, webhook: Webhook) -> SafeString | str:
        """Say that it is not shown, and until when the one before is good."""
        until = webhooks.public(webhook)["old_secret_until"]
        if until is None:
            return "Not shown again; a new one replaces it."
        return format_html("Not shown again. The one before is good until {}.", moment(until) or EMPTY)
