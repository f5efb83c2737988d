"""What the doors to workflows share: texts that can be stored, pages, problems, findings, looking up by id."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Annotated, Any, Literal
from uuid import UUID

from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from ninja import Field, Schema
from pydantic import AfterValidator

from workflows.models import Workflow
from workflows.strict import name_problem

LARGEST = 2_147_483_647
COUNT_LIMIT = 100_000
"""Lists count no further, because a count takes as long as there are rows."""
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


def _storable(text: str) -> str:
    if _UNSTORABLE.search(text):
        raise ValueError("must not contain a NUL character or half of a surrogate pair")
    return text


def _name(text: str) -> str:
    if problem := name_problem(text):
        raise ValueError(problem)
    return text


Text = Annotated[str, AfterValidator(_storable)]
Name = Annotated[Text, AfterValidator(_name), Field(min_length=1, max_length=200)]
"""What people call a thing: no text that turns the direction of what follows it."""


class Problem(Schema):
    """What went wrong, for people."""

    detail: str


class FindingOut(Schema):
    """One thing that is wrong with a workflow.

    ``path`` is the exact place in the JSON of the workflow, ``position`` the offset in the text there, from 0, and
    ``line`` its line, from 1.
    """

    code: str
    severity: Literal["error", "warning"]
    message: str
    node_id: str | None
    field: str | None
    hint: str
    edge_id: str | None
    path: str | None
    position: int | None
    line: int | None


class Refused(Problem):
    """Why a workflow was refused; ``findings`` are its errors."""

    findings: list[FindingOut] = []


ERRORS: dict[int, Any] = dict.fromkeys((400, 401, 403, 404, 409, 422), Problem)


class PageFilters(Schema):
    """Which page."""

    limit: int = Field(50, ge=1, le=200)
    offset: int = Field(0, ge=0, le=1_000_000)


def count_of(rows: QuerySet[Any]) -> int:
    """Return how many rows there are, or ``COUNT_LIMIT`` when there are more. One query."""
    return int(rows.order_by().values("pk")[:COUNT_LIMIT].count())


def etag(shown: Any, prefix: str = "") -> str:
    """Return the ETag of what is shown: ``prefix`` and a hash, in quotes."""
    text = json.dumps(shown, sort_keys=True, default=str)
    return f'"{prefix}{hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]}"'


def answer_unless_known(request: HttpRequest, response: HttpResponse, shown: Any, prefix: str = "") -> Any:
    """Return ``shown`` with its ETag, or an empty 304 when If-None-Match says that it is known."""
    tag = etag(shown, prefix)
    response["ETag"], response["Cache-Control"] = tag, "private, no-cache"
    known = request.headers.get("If-None-Match", "")
    if tag in known or known.strip() == "*":
        return HttpResponse(status=304, headers={"ETag": tag, "Cache-Control": "private, no-cache"})
    return shown


def visible(request: HttpRequest, workflow_id: UUID) -> Workflow:
    """Return a workflow that the user may see, with its versions and schedule; 404 for every other."""
    rows = Workflow.objects.visible_to(request.user).select_related("draft", "version", "schedule")
    workflow: Workflow = get_object_or_404(rows, pk=workflow_id)
    return workflow


def user_id(request: HttpRequest) -> Any:
    """Return the key of whoever asks; the API has seen to it that there is one."""
    return request.user.pk
