"""What runs cost: accounts and their ledger, to look at."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from workflows import access
from workflows.admin.cells import EMPTY, moment
from workflows.admin.filters import DateFilter, OwnerFilter, WorkflowFilter
from workflows.admin.owned import ReadOnlyAdmin
from workflows.models import CreditAccount, CreditEntry

SIGNS = {
    CreditEntry.Kind.GRANT: "+",
    CreditEntry.Kind.RESERVE: "−",
    CreditEntry.Kind.CHARGE: "",
    CreditEntry.Kind.REFUND: "+",
    CreditEntry.Kind.CORRECTION: "−",
}
"""What an entry does to the credits that are available."""


def amount(number: int | None) -> SafeString:
    """Return a number of credits."""
    return format_html('<span class="adm-number">{}</span>', f"{number or 0:,}")


@admin.register(CreditAccount)
class CreditAccountAdmin(ReadOnlyAdmin):
    """How many credits people have."""

    list_display = ("owner_name", "available_text", "reserved_text", "spent_text")
    list_select_related = ("owner",)
    search_fields = ("owner__username",)
    ordering = ("owner__username",)
    empty_text = "Nobody is metered. Whoever is granted credits has an account from then on, and runs cost them."
    fields = ("owner", "available", "reserved", "spent")

    @admin.display(description="User", ordering="owner__username")
    def owner_name(self, account: CreditAccount) -> str:
        """Name whose account it is."""
        return account.owner.get_username()

    @admin.display(description="Available", ordering="available")
    def available_text(self, account: CreditAccount) -> SafeString:
        """Show what may be spent."""
        return amount(account.available)

    @admin.display(description="Reserved", ordering="reserved")
    def reserved_text(self, account: CreditAccount) -> SafeString:
        """Show what is held for what runs now."""
        return amount(account.reserved)

    @admin.display(description="Spent", ordering="spent")
    def spent_text(self, account: CreditAccount) -> SafeString:
        """Show what was charged so far."""
        return amount(account.spent)


@admin.register(CreditEntry)
class CreditEntryAdmin(ReadOnlyAdmin):
    """Every transfer of credits, the newest first."""

    list_display = ("when", "kind", "amount_text", "balance", "about", "note_text", "by")
    list_filter = ("kind", ("at", DateFilter), WorkflowFilter, OwnerFilter)
    list_select_related = ("workflow", "actor", "owner")
    search_fields = ("note", "execution_id", "owner__username")
    ordering = ("-id",)
    empty_text = "Credits come by a grant; every run then reserves, pays and gives back what it did not use."
    fields = ("at", "owner", "kind", "amount", "available_after", "execution_link", "workflow", "actor", "note")
    readonly_fields = ("execution_link",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Lists do not load the settings of workflows."""
        return super().get_queryset(request).defer("workflow__settings", "workflow__description")

    def get_list_display(self, request: HttpRequest) -> Any:
        """Who sees all also sees whose entry it is."""
        columns = list(super().get_list_display(request))
        return [columns[0], "owner", *columns[1:]] if access.sees_everything(request.user) else columns

    @admin.display(description="When", ordering="id")
    def when(self, entry: CreditEntry) -> SafeString | str:
        """Show when it was."""
        return moment(entry.at)

    @admin.display(description="Amount", ordering="amount")
    def amount_text(self, entry: CreditEntry) -> SafeString:
        """Show the amount, with what it does to the available credits."""
        return format_html('<span class="adm-number">{}{}</span>', SIGNS.get(entry.kind, ""), f"{entry.amount:,}")  # type: ignore[call-overload]

    @admin.display(description="Available after", ordering="available_after")
    def balance(self, entry: CreditEntry) -> SafeString:
        """Show what was available then."""
        return amount(entry.available_after)

    @admin.display(description="Workflow and execution", ordering="workflow__name")
    def about(self, entry: CreditEntry) -> SafeString | str:
        """Lead to what it was for."""
        name = entry.workflow.name if entry.workflow else ""
        if entry.execution_id is None:
            return name or EMPTY
        return format_html('{}<span class="adm-second adm-mono">{}</span>', name, self.execution_link(entry))

    @admin.display(description="Execution")
    def execution_link(self, entry: CreditEntry) -> SafeString | str:
        """Lead to the execution."""
        if entry.execution_id is None:
            return EMPTY
        url = reverse("admin:executions_execution_change", args=(entry.execution_id,))
        return format_html('<a href="{}">{}</a>', url, str(entry.execution_id)[:8])

    @admin.display(description="Note")
    def note_text(self, entry: CreditEntry) -> SafeString | str:
        """Show why."""
        return entry.note or EMPTY

    @admin.display(description="By")
    def by(self, entry: CreditEntry) -> SafeString | str:
        """Name who did it; runs do it by themselves."""
        return entry.actor.get_username() if entry.actor else EMPTY
