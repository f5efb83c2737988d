"""Names of credentials; their secrets can be replaced, never read."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html_join
from django.utils.safestring import SafeString

from workflows import access, credentials
from workflows.admin.cells import EMPTY, moment, status_pill
from workflows.admin.owned import OwnedAdmin
from workflows.errors import CredentialError
from workflows.kinds import KINDS, Kind, KindField, check, is_secret, kind_of
from workflows.models import Credential

SOON_DAYS = 14
KEPT = "stored – leave empty to keep it"
FREE = "custom__fields"
"""The form field of a kind whose fields have any name."""


def form_name(kind: Kind, field: KindField) -> str:
    """Return how the form calls a field of a kind; the style sheet shows those of the chosen kind only."""
    return f"{kind.name}__{field.name}"


def _form_field(field: KindField) -> forms.Field:
    attrs = {"class": "vTextField", "autocomplete": "off", "spellcheck": "false"}
    label = field.label if field.required else f"{field.label} (optional)"
    common: dict[str, Any] = {"required": False, "label": label, "help_text": field.help}
    if field.type == "choice":
        return forms.ChoiceField(choices=[(one, one) for one in field.options], initial=field.default, **common)
    if field.type == "json":
        return forms.CharField(widget=forms.Textarea(attrs={**attrs, "class": "vLargeTextField", "rows": 6}), **common)
    if field.secret:
        return forms.CharField(
            strip=False, widget=forms.PasswordInput(attrs={**attrs, "autocomplete": "new-password"}), **common
        )
    return forms.CharField(widget=forms.TextInput(attrs={**attrs, "placeholder": field.default}), **common)


class _OwnFields(forms.JSONField):
    """A JSON object; without one the form is empty, where Django writes ``null``."""

    def prepare_value(self, value: Any) -> Any:
        return "" if value is None else super().prepare_value(value)


class CredentialForm(forms.ModelForm):
    """Secrets are write-only: what is stored is never shown again. What is no secret is."""

    owner: Any = None
    """Whose names must be unique; set per request."""

    kind = forms.ChoiceField(choices=[(kind.name, kind.label) for kind in KINDS.values()], initial="password")
    custom__fields = _OwnFields(
        required=False,
        label="Fields",
        help_text='A JSON object of texts, for example {"client_id": "…", "client_secret": "…"}.',
        widget=forms.Textarea(attrs={"class": "vLargeTextField", "rows": 4, "spellcheck": "false"}),
    )

    class Meta:
        model = Credential
        fields = ("name", "kind", "expires_at")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Add the fields of every kind, fill in what may be seen, and say which secrets are stored."""
        super().__init__(*args, **kwargs)
        for kind in KINDS.values():
            self.fields |= {form_name(kind, field): _form_field(field) for field in kind.fields}
        if self.instance._state.adding:
            return
        known = credentials.public(self.instance)
        kind = KINDS[known["kind"]]
        self.initial["kind"] = kind.name
        for field in kind.fields:
            shown = self.fields[form_name(kind, field)]
            shown.initial = known["fields"].get(field.name, "")
            if field.name in known["secrets"]:
                shown.widget.attrs["placeholder"] = KEPT
        if kind.free and known["secrets"]:
            self.fields[FREE].widget.attrs["placeholder"] = f"{', '.join(known['secrets'])}: {KEPT}"

    def clean_name(self) -> str:
        """Refuse a second credential of the same name and owner."""
        name: str = self.cleaned_data["name"].strip()
        owner = self.owner if self.instance.owner_id is None else self.instance.owner_id
        if Credential.objects.filter(owner=owner, name=name).exclude(pk=self.instance.pk).exists():
            raise ValidationError(f'There is already a credential named "{name}". Choose another name.')
        return name

    def clean(self) -> dict[str, Any]:
        """Check the fields of the chosen kind, and those only."""
        data = super().clean() or {}
        kind = KINDS.get(data.get("kind", ""))
        if kind is None or FREE in self.errors:
            return data
        if kind.free and not _texts(data.get(FREE)):
            self.add_error(FREE, "The fields are a JSON object whose values are texts.")
            return data
        given, kept = self.given(), self._stored(kind)
        for problem in check(kind.name, {**dict.fromkeys(kept, KEPT), **given}):
            if problem.field in kept and problem.field not in given:
                continue
            field = kind.field(problem.field)
            if not given.get(problem.field) and not (kind.free and given):
                reason = "Fill in what is to be stored"
            else:
                reason = f"It {problem.message}" if field else str(problem)
            reason = f"{reason[0].upper()}{reason[1:]}."
            self.add_error(FREE if field is None else form_name(kind, field), reason)
        return data

    def _stored(self, kind: Kind) -> set[str]:
        """Return the secret fields that stay when they are left empty: none when the kind changes."""
        if self.instance._state.adding or kind_of(self.initial["kind"]).name != kind.name:
            return set()
        return set(credentials.public(self.instance)["secrets"])

    def given(self) -> dict[str, str]:
        """Return the fields to store. A secret that is left empty is not among them, so that it stays."""
        kind = KINDS[self.cleaned_data["kind"]]
        if kind.free:
            return dict(self.cleaned_data.get(FREE) or {})
        values = {field.name: self.cleaned_data.get(form_name(kind, field)) or "" for field in kind.fields}
        return {name: value for name, value in values.items() if value or not is_secret(kind.name, name)}


def _texts(value: Any) -> bool:
    """Return whether a JSON value is none, or an object of texts."""
    return value is None or (isinstance(value, dict) and all(isinstance(one, str) for one in value.values()))


@admin.register(Credential)
class CredentialAdmin(OwnedAdmin):
    """Names of credentials; their secrets can be replaced, never read."""

    form = CredentialForm
    list_display = ("name", "kind_text", "state", "used", "expires", "updated")
    list_filter = ("kind",)
    empty_text = "Store a login or a token once; workflows name it and never show it."
    search_fields = ("name",)
    readonly_fields = ("used_by", "used")
    change_fieldset_note = "Secrets are never shown. Leave one empty to keep it; filling it in replaces it."

    def get_fieldsets(self, request: HttpRequest, obj: Credential | None = None) -> Any:
        """Show the fields of all kinds, of which the style sheet hides those of the others."""
        note = {"description": self.change_fieldset_note} if obj else {}
        of_kinds = tuple(form_name(kind, field) for kind in KINDS.values() for field in kind.fields)
        use = (("Use", {"fields": ("used_by", "used")}),) if obj else ()
        return ((None, {"fields": ("name", "kind", *of_kinds, FREE, "expires_at"), **note}), *use)

    def get_form(self, request: HttpRequest, obj: Credential | None = None, change: bool = False, **kwargs: Any) -> Any:
        """Return the form, which knows whose credential a new one will be."""
        kwargs["fields"] = CredentialForm.Meta.fields
        form: Any = super().get_form(request, obj, change=change, **kwargs)
        form.owner = request.user.pk
        return form

    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Say what a form cannot know before it stores."""
        try:
            return super().changeform_view(request, *args, **kwargs)
        except CredentialError as error:
            self.message_user(request, str(error), messages.ERROR)
            return HttpResponseRedirect(request.path)

    def save_model(self, request: HttpRequest, obj: Credential, form: Any, change: bool) -> None:
        """Encrypt what was typed in; without it only name and end change."""
        person: Any = obj.owner if change else request.user
        row = obj if change else None
        stored = credentials.save(
            person, obj.name, obj.kind, form.given(), obj.expires_at, credential=row, new=not change
        )
        obj.pk, obj.owner, obj._state.adding = stored.pk, person, False

    # -------------------------------------------------------------- deleting
    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        """Name the workflows that will miss it."""
        return [self._fate(credential) for credential in objs], {}, set(), []

    def _fate(self, credential: Credential) -> str:
        names = [workflow.name for workflow in credentials.used_by(credential)]
        missed = f" These workflows name it and will fail: {', '.join(names)}." if names else " No workflow names it."
        return f'The credential "{credential.name}" is deleted.{missed}'

    def delete_model(self, request: HttpRequest, obj: Credential) -> None:
        """Delete it, noted in the audit log."""
        credentials.delete(obj, force=True)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Credential]) -> None:
        """Delete each, noted in the audit log."""
        for credential in queryset:
            credentials.delete(credential, force=True)

    # -------------------------------------------------------------- columns
    def get_list_display(self, request: HttpRequest) -> Any:
        """People who see those of others also see whose credential it is."""
        columns = list(super().get_list_display(request))
        return [*columns, "owner"] if access.sees_everything(request.user) else columns

    @admin.display(description="Kind", ordering="kind")
    def kind_text(self, credential: Credential) -> str:
        """Say the kind."""
        return kind_of(credential.kind).label

    @admin.display(description="Status")
    def state(self, credential: Credential) -> SafeString:
        """Say whether nodes get it."""
        end = credential.expires_at
        if end is None:
            return status_pill("active", "Valid")
        left = (end - timezone.now()).total_seconds()
        if left <= 0:
            return status_pill("failed", "Expired")
        return status_pill("retrying", "Expires soon") if left < SOON_DAYS * 86_400 else status_pill("active", "Valid")

    @admin.display(description="Last used", ordering="last_used_at")
    def used(self, credential: Credential) -> SafeString | str:
        """Show when an execution last asked for it."""
        return moment(credential.last_used_at)

    @admin.display(description="Expires", ordering="expires_at")
    def expires(self, credential: Credential) -> SafeString | str:
        """Show when nodes stop to get it."""
        return moment(credential.expires_at)

    @admin.display(description="Changed", ordering="updated_at")
    def updated(self, credential: Credential) -> SafeString | str:
        """Show when it was last written."""
        return moment(credential.updated_at)

    @admin.display(description="Used by")
    def used_by(self, credential: Credential) -> SafeString | str:
        """Lead to the workflows that name it."""
        links = [
            (reverse("admin:workflows_workflow_change", args=(workflow.pk,)), workflow.name)
            for workflow in credentials.used_by(credential)
        ]
        return format_html_join(", ", '<a href="{}">{}</a>', links) if links else EMPTY
