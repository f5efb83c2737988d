"""Who may do what: pages of rows that belong to a user, and of rows that the product writes."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from workflows import access
from workflows.admin.cells import EMPTY


class OwnedAdmin(admin.ModelAdmin):
    """Pages of rows that belong to a user: staff work with their own rows, and with all by permission.

    ``owner_path`` is how a row leads to its owner. Foreign rows do not exist for a user: they are in no list,
    no choice and no page. To a request that changes something, rows that may only be seen do not exist, either.
    """

    owner_path = "owner"
    empty_value_display = EMPTY
    list_per_page = 50
    show_full_result_count = False

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Return the rows that the user may see; for a request that changes something, those that they may change."""
        rows = super().get_queryset(request)
        everything = access.reaches_everything(request.user, access.verb_of(request.method))
        return rows if everything else self.seen_by(rows, request.user)

    def seen_by(self, rows: QuerySet[Any], user: Any) -> QuerySet[Any]:
        """Return those of ``rows`` that ``user`` may see, who does not see everything."""
        return rows.filter(**{self.owner_path: user.pk})

    def _mine(self, request: HttpRequest, obj: Any, verb: str = "see") -> bool:
        if not (request.user.is_active and request.user.is_staff):
            return False
        return obj is None or access.can(request.user, verb, obj, self.owner_path)

    def has_module_permission(self, request: HttpRequest) -> bool:
        """Every staff user has workflows."""
        return self._mine(request, None)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Owners see their rows."""
        return self._mine(request, obj)

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Every staff user may add rows of their own."""
        return self._mine(request, None)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Owners change their rows."""
        return self._mine(request, obj, "change")

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Owners delete their rows."""
        return self._mine(request, obj, "change")


class ReadOnlyAdmin(OwnedAdmin):
    """Pages of rows that the product writes: they are looked at, never edited by hand."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Nobody adds such a row by hand."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody edits such a row."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody deletes such a row by hand; retention does."""
        return False
