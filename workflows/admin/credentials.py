"""Names of credentials; their content can be replaced, never read."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.core.exceptions import ValidationError
from django.http import HttpRequest
from django.utils.safestring import SafeString

from workflows import access, credentials
from workflows.admin.cells import moment
from workflows.admin.owned import OwnedAdmin
from workflows.models import Credential


class CredentialForm(forms.ModelForm):
    """Write-only: what is stored is never shown again."""

    KINDS = (("password", "User name and password"), ("bearer", "Token or API key"), ("custom", "Own fields (JSON)"))
    FIELDS = {"password": ("username", "password"), "bearer": ("token",), "custom": ("custom",)}

    owner: Any = None
    """Whose names must be unique; set per request."""

    kind = forms.ChoiceField(choices=KINDS, initial="password")
    username = forms.CharField(
        required=False, widget=forms.TextInput(attrs={"class": "vTextField", "autocomplete": "off"})
    )
    password = forms.CharField(
        required=False, strip=False, widget=forms.PasswordInput(attrs={"autocomplete": "new-password"})
    )
    token = forms.CharField(required=False, widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}))
    custom = forms.JSONField(
        required=False,
        label="Fields",
        help_text='A JSON object of texts, for example {"client_id": "…", "client_secret": "…"}.',
        widget=forms.Textarea(attrs={"class": "vLargeTextField", "rows": 4}),
    )

    class Meta:
        model = Credential
        fields = ("name", "kind")

    def clean_name(self) -> str:
        """Refuse a second credential of the same name and owner."""
        name: str = self.cleaned_data["name"].strip()
        owner = self.owner if self.instance.owner_id is None else self.instance.owner_id
        if Credential.objects.filter(owner=owner, name=name).exclude(pk=self.instance.pk).exists():
            raise ValidationError(f'There is already a credential named "{name}". Choose another name.')
        return name

    def clean_custom(self) -> dict[str, str] | None:
        """Refuse own fields that are not texts by name."""
        value = self.cleaned_data["custom"]
        if value is None:
            return None
        if not isinstance(value, dict) or not all(isinstance(item, str) and key for key, item in value.items()):
            raise ValidationError("The fields are a JSON object whose values are texts.")
        return value

    def clean(self) -> dict[str, Any]:
        """A new credential, and one that changes its kind, needs its secret."""
        data = super().clean() or {}
        if (
            "kind" in data
            and not self.errors
            and self.secret() is None
            and (self.instance._state.adding or "kind" in self.changed_data)
        ):
            self.add_error(self.FIELDS[data["kind"]][-1], "Fill in what is to be stored.")
        return data

    def secret(self) -> dict[str, str] | None:
        """Return the fields that were typed in, or None to keep what is stored."""
        data = self.cleaned_data
        if data["kind"] == "custom":
            return data.get("custom") or None
        fields = {name: data.get(name) or "" for name in self.FIELDS[data["kind"]]}
        return fields if fields[self.FIELDS[data["kind"]][-1]] else None


@admin.register(Credential)
class CredentialAdmin(OwnedAdmin):
    """Names of credentials; their content can be replaced, never read."""

    form = CredentialForm
    list_display = ("name", "kind_text", "used", "updated")
    list_filter = ("kind",)
    empty_text = "Store a login or a token once; workflows name it and never show it."
    search_fields = ("name",)
    change_fieldset_note = (
        "What is stored is never shown. Leave the fields empty to keep it; filling them in replaces it."
    )

    def get_fieldsets(self, request: HttpRequest, obj: Credential | None = None) -> Any:
        """Say on an existing credential what empty fields mean."""
        note = {"description": self.change_fieldset_note} if obj else {}
        return ((None, {"fields": ("name", "kind", "username", "password", "token", "custom"), **note}),)

    def get_form(self, request: HttpRequest, obj: Credential | None = None, change: bool = False, **kwargs: Any) -> Any:
        """Return the form, which knows whose credential a new one will be."""
        form: Any = super().get_form(request, obj, change=change, **kwargs)
        form.owner = request.user.pk
        return form

    def save_model(self, request: HttpRequest, obj: Credential, form: Any, change: bool) -> None:
        """Encrypt what was typed in; without it only the name changes."""
        person: Any = obj.owner if change else request.user
        stored = credentials.save(person, obj.name, obj.kind, form.secret() or {}, credential=obj if change else None)
        obj.pk, obj.owner, obj._state.adding = stored.pk, person, False

    def get_list_display(self, request: HttpRequest) -> Any:
        """People who see those of others also see whose credential it is."""
        columns = list(super().get_list_display(request))
        return [*columns, "owner"] if access.sees_everything(request.user) else columns

    @admin.display(description="Kind", ordering="kind")
    def kind_text(self, credential: Credential) -> str:
        """Say the kind."""
        return dict(CredentialForm.KINDS).get(credential.kind, credential.kind)

    @admin.display(description="Last used", ordering="last_used_at")
    def used(self, credential: Credential) -> SafeString | str:
        """Show when an execution last asked for it."""
        return moment(credential.last_used_at)

    @admin.display(description="Changed", ordering="updated_at")
    def updated(self, credential: Credential) -> SafeString | str:
        """Show when it was last written."""
        return moment(credential.updated_at)
