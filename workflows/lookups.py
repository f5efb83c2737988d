"""What databases can be asked about JSON, beyond what Django knows."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import JSONField, Lookup
from django.db.models.sql.compiler import SQLCompiler

if TYPE_CHECKING:
    _Lookup = Lookup[Any]
else:
    _Lookup = Lookup


@JSONField.register_lookup
class HasTag(_Lookup):
    """``settings__has_tag="text"``: whether the list ``tags`` of a JSON object has this text."""

    lookup_name = "has_tag"
    prepare_rhs = False

    def as_sqlite(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper) -> tuple[str, list[Any]]:
        """Return SQL for SQLite."""
        column, values = self.process_lhs(compiler, connection)
        found = f"EXISTS (SELECT 1 FROM json_each({column}, '$.tags') WHERE value = %s)"  # noqa: S608 - a parameter
        return found, [*values, self.rhs]

    def as_postgresql(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper) -> tuple[str, list[Any]]:
        """Return SQL for PostgreSQL."""
        column, values = self.process_lhs(compiler, connection)
        return f"({column} -> 'tags') @> %s::jsonb", [*values, json.dumps([self.rhs])]
