"""What programs log in with, to look at."""

from __future__ import annotations

from django.contrib import admin
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from workflows.admin.cells import moment, status_pill
from workflows.admin.owned import ReadOnlyAdmin
from workflows.models import ApiToken


@admin.register(ApiToken)
class ApiTokenAdmin(ReadOnlyAdmin):
    """Tokens; their text is shown once, when they are made."""

    list_display = ("name", "state", "scope_text", "used", "expires", "created")
    search_fields = ("name", "prefix")
    ordering = ("-created_at",)
    fields = ("name", "prefix", "scope_text", "state", "created_at", "expires_at", "last_used_at", "revoked_at")
    readonly_fields = ("scope_text", "state")
    empty_text = "A program shows a token instead of a login. It may do what its scopes say, and nothing else."

    @admin.display(description="Status")
    def state(self, token: ApiToken) -> SafeString:
        """Say whether it still opens anything."""
        if token.revoked_at is not None:
            return status_pill("cancelled", "Revoked")
        if token.expires_at is not None and token.expires_at <= timezone.now():
            return status_pill("skipped", "Expired")
        return status_pill("active", "Valid")

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
