"""What runs cost: accounts, what was granted and corrected by hand, and the ledger."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.auth import get_user_model
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from workflows import access, credits
from workflows.admin.cells import EMPTY, moment
from workflows.admin.filters import DateFilter, OwnerFilter, WorkflowFilter
from workflows.admin.owned import ReadOnlyAdmin
from workflows.errors import WorkflowError
from workflows.models import CreditAccount, CreditEntry

SIGNS = {
    CreditEntry.Kind.GRANT: "+",
    CreditEntry.Kind.RESERVE: "−",
    CreditEntry.Kind.CHARGE: "",
    CreditEntry.Kind.REFUND: "+",
    CreditEntry.Kind.CORRECTION: "−",
}
"""What an entry does to the credits that are available."""


REPORT_DAYS = 30
LINES_SHOWN = 10
CHART_WIDTH, CHART_HEIGHT, GAP = 1000, 100, 6


class TransferForm(forms.Form):
    """Credits that somebody gives or takes back by hand."""

    owner: forms.ModelChoiceField[Any] = forms.ModelChoiceField(queryset=None, label="User")
    verb = forms.ChoiceField(
        label="What", choices=[("grant", "Grant"), ("correct", "Take back")], widget=forms.RadioSelect, initial="grant"
    )
    amount = forms.IntegerField(min_value=1, widget=forms.NumberInput(attrs={"class": "vIntegerField"}))
    note = forms.CharField(
        max_length=200,
        required=False,
        help_text="Stays in the ledger.",
        widget=forms.TextInput(attrs={"class": "vTextField"}),
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Offer the users who may have workflows."""
        super().__init__(*args, **kwargs)
        people: Any = self.fields["owner"]
        people.queryset = get_user_model()._default_manager.filter(is_active=True).order_by("username")


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
    change_list_template = "admin/workflows/creditaccount/change_list.html"

    def get_urls(self) -> list[URLPattern]:
        """Add the form by which credits are given and taken back."""
        view = self.admin_site.admin_view
        return [path("grant/", view(self.grant), name="workflows_creditaccount_grant"), *super().get_urls()]

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Show the accounts, and to whom it is permitted the way to grant credits."""
        return super().changelist_view(request, {**(extra_context or {}), "may_grant": may_grant(request.user)})

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show one account: what there is, what was spent on what, and the newest entries."""
        account: Any = self.get_object(request, object_id)
        if account is None:
            raise Http404("there is no such account")
        since = (timezone.now() - timedelta(days=REPORT_DAYS - 1)).date()
        days = {line.key: line.credits for line in credits.report(account.owner, "day", since=since)}
        spent = [
            (since + timedelta(days=ago), days.get(str(since + timedelta(days=ago)), 0)) for ago in range(REPORT_DAYS)
        ]
        lines = credits.report(account.owner, "workflow", since=since, limit=LINES_SHOWN)
        ledger = reverse("admin:workflows_creditentry_changelist")
        context = {
            **self.admin_site.each_context(request),
            "title": f"Credits of {account.owner.get_username()}",
            "opts": self.opts,
            "account": account,
            "days": REPORT_DAYS,
            "total": sum(number for _, number in spent),
            "chart": _bars(spent),
            "workflows": [(line, f"{ledger}?owner={account.pk}&workflow={line.key}") for line in lines],
            "rows": [
                (entry, SIGNS.get(entry.kind, ""), moment(entry.at))
                for entry in credits.entries(account.owner)[:LINES_SHOWN]
            ],
            "ledger": f"{ledger}?owner={account.pk}" if access.sees_everything(request.user) else ledger,
            "form": TransferForm(initial={"owner": account.pk}) if may_grant(request.user) else None,
        }
        return TemplateResponse(request, "admin/workflows/creditaccount/account.html", context)

    def grant(self, request: HttpRequest) -> HttpResponse:
        """Give credits, or take some back."""
        if not may_grant(request.user):
            messages.error(request, "You may not grant credits; that takes the permission to add credit entries.")
            return HttpResponseRedirect(reverse("admin:workflows_creditaccount_changelist"))
        form = TransferForm(request.POST or None)
        if request.method == "POST" and form.is_valid():
            data = form.cleaned_data
            act = credits.grant if data["verb"] == "grant" else credits.correct
            try:
                found = act(data["owner"], data["amount"], data["note"], actor=request.user)
            except WorkflowError as error:
                form.add_error("amount", str(error))
            else:
                messages.success(request, f"{found.available:,} credits are now available to {data['owner']}.")
                return HttpResponseRedirect(reverse("admin:workflows_creditaccount_change", args=(found.pk,)))
        context = {**self.admin_site.each_context(request), "title": "Grant credits", "opts": self.opts, "form": form}
        return TemplateResponse(request, "admin/workflows/creditaccount/grant.html", context)

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


def may_grant(user: Any) -> bool:
    """Return whether ``user`` may give credits and take them back."""
    return bool(user.has_perm("workflows.add_creditentry"))


def _bars(days: list[tuple[date, int]]) -> list[dict[str, Any]]:
    """Return one bar per day, in a box of ``CHART_WIDTH`` by ``CHART_HEIGHT``."""
    top = max(number for _, number in days) or 1
    width = (CHART_WIDTH - GAP * (len(days) - 1)) / len(days)
    bars = []
    for index, (day, number) in enumerate(days):
        height = max(number / top * (CHART_HEIGHT - 4), 2) if number else 0
        x = round(index * (width + GAP), 2)
        bars.append({"day": day, "number": number, "x": x, "y": round(CHART_HEIGHT - height, 2), "height": round(height, 2), "width": round(width, 2)})  # fmt: skip
    return bars


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
