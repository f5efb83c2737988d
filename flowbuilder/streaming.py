"""``POST /executions/{id}/start-streaming``: says where an execution is watched; ``demo`` in the place of an id starts one.

For programs that know this address from the first Flow Builder; everything streams by itself, so nothing else is started.
"""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.http import HttpRequest, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST

from executions.errors import StartRefused
from executions.models import Execution
from executions.triggers import start_execution
from flowbuilder import throttle
from flowbuilder.installation import add_examples
from flowbuilder.rates import read_rate
from workflows import audit
from workflows.errors import WorkflowError
from workflows.models import Workflow

DEMO: Final = "demo"
EXAMPLES: Final = ("demo-fan-out", "demo-merge")
"""What is started, and the workflow that it runs for each of its items; neither needs a network."""


@never_cache
@require_POST
def start_streaming(request: HttpRequest, execution_id: str) -> JsonResponse:
    """Answer 202 with the id and the socket; 401 without a login, 404 for what is not there or not theirs to see.

    A demo that cannot be started is 409 with the reason; starts have the rate of the API's (429).
    """
    user: Any = request.user
    if not user.is_authenticated:
        return _problem(401, "log in first")
    if execution_id == DEMO:
        wait = throttle.take(f"start:user:{user.pk}", read_rate(settings.START_RATE))
        if wait:
            return _problem(429, f"too many requests; come again in {wait} s")
        try:
            with audit.acting(user, audit.Door.API):
                return _streaming(_start_demo(user).pk)
        except (StartRefused, WorkflowError) as error:
            return _problem(409, str(error))
    key = _uuid(execution_id)
    if key is None or not Execution.objects.visible_to(user).filter(pk=key).exists():
        return _problem(404, f'no execution "{execution_id}"; "{DEMO}" starts one')
    return _streaming(key)


@transaction.atomic
def _start_demo(user: Any) -> Execution:
    add_examples(user, EXAMPLES)
    return start_execution(Workflow.objects.get(owner=user, name=EXAMPLES[0]), by=user)


def _streaming(execution_id: UUID) -> JsonResponse:
    content = {
        "streaming": True,
        "execution_id": str(execution_id),
        "socket": f"/ws/executions/{execution_id}/logs",
    }
    return JsonResponse(content, status=202)


def _problem(status: int, detail: str) -> JsonResponse:
    return JsonResponse({"detail": detail}, status=status)


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None
