"""What programs log in with: made here, shown once, revoked here."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from workflows import access, tokens
from workflows.admin.cells import moment, status_pill
from workflows.admin.owned import ReadOnlyAdmin
from workflows.errors import TokenError
from workflows.models import ApiToken


class TokenForm(forms.ModelForm):
    """A new token; what is wrong with it is said beside the form."""

    owner: Any = None
    """Whom it acts for; set per request."""

    scopes = forms.MultipleChoiceField(
        label="May",
        choices=[(scope, f"{scope}: {meaning}") for scope, meaning in tokens.SCOPES.items()],
        widget=forms.CheckboxSelectMultiple,
        help_text="A token that may write or run something may read it, too.",
    )

    class Meta:
        model = ApiToken
        fields = ("name", "scopes", "expires_at")
        field_classes = {"expires_at": forms.SplitDateTimeField}
        help_texts = {"name": "What it is for.", "expires_at": "Empty: it works until it is revoked."}

    def clean(self) -> dict[str, Any]:
        """Refuse what ``tokens`` refuses."""
        data = super().clean() or {}
        if not self.errors:
            try:
                tokens.check(self.owner, data["name"], data["scopes"], data.get("expires_at"))
            except TokenError as error:
                raise ValidationError(str(error)) from error
        return data


@admin.register(ApiToken)
class ApiTokenAdmin(ReadOnlyAdmin):
    """Tokens; their text is shown once, when they are made."""

    list_display = ("name", "state", "scope_text", "used", "expires", "created")
    search_fields = ("name", "prefix")
    ordering = ("-created_at",)
    list_select_related = ("owner",)
    fields = ("name", "prefix", "scope_text", "state", "created_at", "expires_at", "last_used_at", "revoked_at")
    readonly_fields = ("scope_text", "state")
    actions = ("revoke",)
    empty_text = "A program shows a token instead of a login. It may do what its scopes say, and nothing else."

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Every staff user may make tokens of their own."""
        return self._mine(request, None)

    def get_fields(self, request: HttpRequest, obj: ApiToken | None = None) -> Any:
        """Show of a new token what it takes, of others what they are."""
        return self.fields if obj else ("name", "scopes", "expires_at")

    def get_readonly_fields(self, request: HttpRequest, obj: ApiToken | None = None) -> Any:
        """A new token has nothing to look at."""
        return self.readonly_fields if obj else ()

    def get_form(self, request: HttpRequest, obj: ApiToken | None = None, change: bool = False, **kwargs: Any) -> Any:
        """Return the form of a new token, which knows whose it will be."""
        if obj is not None:
            return super().get_form(request, obj, change=change, **kwargs)
        form: Any = super().get_form(request, obj, change=change, **{**kwargs, "form": TokenForm})
        form.owner = request.user
        return form

    def get_list_display(self, request: HttpRequest) -> Any:
        """People who see those of others also see whose token it is."""
        columns = super().get_list_display(request)
        return [columns[0], "owner", *columns[1:]] if access.sees_everything(request.user) else columns

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """Make the token; its text goes to the page that follows and nowhere else."""
        made, text = tokens.create(request.user, obj.name, obj.scopes, obj.expires_at)
        obj.__dict__.update(made.__dict__)
        obj.shown_once = text

    def response_add(self, request: HttpRequest, obj: Any, post_url_continue: str | None = None) -> HttpResponse:
        """Show the text of the new token, once."""
        context = {**self.admin_site.each_context(request), "title": "Token made", "opts": self.opts, "token": obj}
        return TemplateResponse(request, "admin/workflows/apitoken/made.html", context)

    @admin.action(description="Revoke")
    def revoke(self, request: HttpRequest, chosen: QuerySet[ApiToken]) -> None:
        """End the chosen tokens now."""
        count = sum(tokens.revoke(token) for token in chosen)
        word = "token was" if count == 1 else "tokens were"
        self.message_user(request, f"{count} {word} revoked.", messages.SUCCESS if count else messages.WARNING)

    @admin.display(description="Status")
    def state(self, token: ApiToken) -> SafeString:
        """Say whether it still opens anything."""
        if tokens.is_working(token):
            return status_pill("active", "Valid")
        if token.revoked_at is not None:
            return status_pill("cancelled", "Revoked")
        return status_pill("skipped", "Expired" if token.owner.is_active else "Owner may not log in")

    @admin.display(description="May")
    def scope_text(self, token: ApiToken) -> SafeString:
        """Show the scopes."""
        return format_html('<span class="adm-mono">{}</span>', ", ".join(token.scopes) or "nothing")

    @admin.display(description="Last used", ordering="last_used_at")
    def used(self, token: ApiToken) -> SafeString | str:
        """Show when a program last came with it."""
        return moment(token.last_used_at)

    @admin.display(description="Expires", ordering="expires_at")
    def expires(self, token: ApiToken) -> SafeString | str:
        """Show when it ends."""
        return moment(token.expires_at) if token.expires_at else "never"

    @admin.display(description="Made", ordering="created_at")
    def created(self, token: ApiToken) -> SafeString | str:
        """Show when it was made."""
        return moment(token.created_at)
