"""The HTTP API: one OpenAPI document under ``/api/v1/``, one shape of error, ``{"detail": text}``.

Requests are those of a program with a bearer token, or of a logged-in person: session cookie, and CSRF token for
whatever changes something. ``flowbuilder.doors`` has let them in. Every router filters by owner; what belongs to
others does not exist.
"""

from __future__ import annotations

import json
import logging
from typing import Any

from django.core.exceptions import BadRequest, RequestDataTooBig, SuspiciousOperation
from django.http import Http404, HttpRequest, HttpResponse
from django.http.multipartparser import MultiPartParserError
from django.shortcuts import render
from ninja import NinjaAPI
from ninja.errors import AuthenticationError, HttpError, ValidationError
from ninja.openapi.docs import Swagger
from ninja.openapi.schema import OpenAPISchema
from ninja.parser import Parser
from ninja.security import HttpBearer, django_auth

from executions.api import router as executions
from executions.errors import ExecutionError, KeyReused, LetterRefused, StartRefused
from flowbuilder import policy
from flowbuilder.bodies import too_large_text
from monitoring.api import router as alerts
from recordings.api import router as recordings
from workflows.api import router as workflows
from workflows.errors import (
    ActivationRefused,
    CredentialInUse,
    CredentialTaken,
    DefinitionError,
    InsufficientCredits,
    TransitionError,
    UnknownWorkflow,
    WorkflowError,
)
from workflows.shown import findings_json
from workflows.strict import read_json

logger = logging.getLogger(__name__)

SHOWN_PROBLEMS = 5
"""How many invalid fields one message names."""

ALWAYS: dict[int, str] = {
    401: "Not logged in, or a token that does not work",
    403: "A token without the scope, a missing CSRF token, or a thing that you may only see",
    429: "Too many requests; the header Retry-After says after how many seconds to come again",
}
"""What any operation may answer before it begins."""


class Token(HttpBearer):
    """A token of ``./flow tokens create``."""

    def authenticate(self, request: HttpRequest, token: str) -> Any:
        """Return the token that the request came in with; which one it is was found out at the door."""
        return getattr(request, "token", None)


class Api(NinjaAPI):
    """The API, whose document says of each operation what a token must be allowed and what may go wrong."""

    def get_openapi_schema(self, **options: Any) -> OpenAPISchema:
        """Return the OpenAPI document."""
        schema = super().get_openapi_schema(**options)
        for path, operations in schema["paths"].items():
            for method, operation in operations.items():
                _describe(path.removeprefix(policy.API), method.upper(), operation)
        return schema


def _describe(path: str, method: str, operation: dict[str, Any]) -> None:
    """Add scope and answers of the door to an operation of the document."""
    scope = policy.OPERATIONS.get(f"{method} {path}")
    operation["x-scope"] = scope
    operation["security"] = [{"Token": [scope] if scope else []}, {"SessionAuth": []}]
    problem = {"$ref": "#/components/schemas/Problem"}
    for status, description in ALWAYS.items():
        answer = operation["responses"].setdefault(status, {"content": {"application/json": {"schema": problem}}})
        answer["description"] = description


class Docs(Swagger):
    """The page that describes the API, from files of this installation; without this class they come from elsewhere."""

    def render_page(self, request: HttpRequest, api: NinjaAPI, **options: Any) -> HttpResponse:
        """Return the page."""
        address = {**self.settings, "url": self.get_openapi_url(api, options)}
        context = {"swagger_settings": json.dumps(address, indent=1), "api": api, "add_csrf": True}
        return render(request, self.template, context)


class StrictParser(Parser):
    """Reads bodies as strictly as they are stored: no key twice, no NaN."""

    def parse_body(self, request: HttpRequest) -> Any:
        """Return the JSON value of the body."""
        return read_json(request.body)


api = Api(
    title="Flow Builder",
    version="1.0",
    description='Workflows, executions and recordings. Errors are `{"detail": text}` with the declared status.',
    urls_namespace="api",
    auth=[Token(), django_auth],
    docs=Docs(),
    docs_url="/docs",
    parser=StrictParser(),
)
api.add_router("", workflows)
api.add_router("", executions)
api.add_router("/recordings", recordings)
api.add_router("", alerts)


@api.exception_handler(ValidationError)
def invalid(request: HttpRequest, error: ValidationError) -> HttpResponse:
    """Answer 422 with a sentence that names the fields."""
    problems = [f"{_place(problem.get('loc', ()))}{problem.get('msg', 'is not valid')}" for problem in error.errors]
    more = f" (and {len(problems) - SHOWN_PROBLEMS} more)" if len(problems) > SHOWN_PROBLEMS else ""
    return _answer(request, 422, "; ".join(problems[:SHOWN_PROBLEMS]) + more)


REFUSALS: dict[type[Exception], int] = {
    TransitionError: 409,
    ActivationRefused: 422,
    CredentialInUse: 409,
    CredentialTaken: 409,
    InsufficientCredits: 409,
    StartRefused: 409,
    KeyReused: 422,
    LetterRefused: 409,
    UnknownWorkflow: 404,
}
"""What an error that is meant for people is answered with; 422 where nothing is said, 409 when it is not the request
that is wrong but the state of what it is about."""
DETAILS = ("code", "needs", "available", "reserved")


@api.exception_handler(WorkflowError)
@api.exception_handler(ExecutionError)
def refused(request: HttpRequest, error: Exception) -> HttpResponse:
    """Answer with the message of an error that is meant for people, and what it knows beyond it."""
    status = next((REFUSALS[kind] for kind in type(error).__mro__ if kind in REFUSALS), 422)
    body = {"detail": str(error), **{key: getattr(error, key) for key in DETAILS if hasattr(error, key)}}
    if isinstance(error, ActivationRefused):
        body["findings"] = findings_json(error.findings)
    return api.create_response(request, body, status=status)


@api.exception_handler(AuthenticationError)
def unknown(request: HttpRequest, error: AuthenticationError) -> HttpResponse:
    """Answer 401 with what is missing; a token that does not work was refused at the door."""
    return _answer(
        request, 401, "log in, or send the header Authorization: Bearer TOKEN; ./flow tokens create makes one"
    )


@api.exception_handler(HttpError)
def unreadable(request: HttpRequest, error: HttpError) -> HttpResponse:
    """Answer with the status of the error; of a body that cannot be read, with the place in it."""
    cause = error.__cause__
    detail = f"the body cannot be read: {cause}" if isinstance(cause, DefinitionError) else str(error)
    return _answer(request, error.status_code, detail)


@api.exception_handler(Http404)
def missing(request: HttpRequest, error: Http404) -> HttpResponse:
    """Answer 404; what belongs to others looks the same as what never was."""
    return _answer(request, 404, "not found")


@api.exception_handler(RequestDataTooBig)
def too_large(request: HttpRequest, error: RequestDataTooBig) -> HttpResponse:
    """Answer 413 with the limit and the way out."""
    return _answer(request, 413, too_large_text())


@api.exception_handler(BadRequest)
@api.exception_handler(MultiPartParserError)
@api.exception_handler(SuspiciousOperation)
def suspicious(request: HttpRequest, error: Exception) -> HttpResponse:
    """Answer 400, for example when a form has more fields than anybody fills in."""
    return _answer(request, 400, str(error) or "the request is not acceptable")


@api.exception_handler(Exception)
def failed(request: HttpRequest, error: Exception) -> HttpResponse:
    """Answer 500 without details; they are in the log."""
    logger.exception("%s %s failed", request.method, request.path, exc_info=error)
    return _answer(request, 500, "the server failed to answer; the reason is in its log")


def _place(location: Any) -> str:
    names = [str(part) for part in location if part not in ("body", "query", "path", "header")]
    # The first name is the parameter of the function that takes the body, which callers do not know.
    names = names[1:] if len(names) > 1 and names[0] in ("body", "filters", "page") else names
    return f"{'.'.join(names)}: " if names else ""


def _answer(request: HttpRequest, status: int, detail: str) -> HttpResponse:
    return api.create_response(request, {"detail": detail}, status=status)
