"""Generated requests: the API of executions and recordings answers only what its OpenAPI document says."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any
from uuid import UUID

import pytest
import schemathesis
from django.core.wsgi import get_wsgi_application
from django.test import Client
from hypothesis import HealthCheck, given
from hypothesis import settings as effort
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from flowbuilder.api import api
from recordings.database import DatabaseRecordingStorage
from tests.conftest import graph, node
from tests.recordings.conftest import record_run

pytestmark = [pytest.mark.django_db(transaction=True)]

schema = schemathesis.openapi.from_dict(json.loads(json.dumps(api.get_openapi_schema(path_prefix="/api/v1/"))))
schema.app = get_wsgi_application()
seen: Counter[int] = Counter()
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]


@pytest.fixture
def session(alice: Any, make_workflow: Any, settings: Any) -> dict[str, Any]:
    """Alice's login, one workflow of hers and one execution of it."""
    settings.ALLOWED_HOSTS = ["localhost"]
    client = Client()
    client.force_login(alice)
    workflow = make_workflow(graph([node("wait", "delay", Duration=0)]))
    body = json.dumps({"workflow_id": str(workflow.pk)})
    started = client.post("/api/v1/executions", body, content_type="application/json", headers={"host": "localhost"})
    cookies = {"sessionid": client.cookies["sessionid"].value, "csrftoken": "a" * 32}
    recording = UUID(DatabaseRecordingStorage(alice).save_sync(record_run()))
    return {
        "cookies": cookies,
        "workflow": str(workflow.pk),
        "execution": started.json()["execution_id"],
        "recording": str(recording),
    }


OPERATIONS = [
    found.ok()
    for found in schema.include(path_regex="/(executions|recordings)").get_all_operations()
    if isinstance(found, Ok)
]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # the client closes no downloads
@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.label)
def test_every_answer_is_a_documented_one(operation: Any, session: dict[str, Any]) -> None:
    @given(case=operation.as_strategy())
    @effort(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
    def check(case: Any) -> None:
        if len(str(case.path_parameters.get("execution_id", ""))) == 36 and sum(seen.values()) % 2:
            case.path_parameters["execution_id"] = session["execution"]
        for name in ("recording_id", "other_id"):
            if len(str(case.path_parameters.get(name, ""))) == 36 and sum(seen.values()) % 3:
                case.path_parameters[name] = session["recording"]
        if isinstance(case.body, dict) and len(str(case.body.get("workflow_id", ""))) == 36:
            case.body["workflow_id"] = session["workflow"]

        headers = {"X-CSRFToken": "a" * 32}
        answer = case.call(base_url="http://localhost", headers=headers, cookies=session["cookies"])
        case.validate_response(answer, checks=CHECKS)

        seen[answer.status_code] += 1

    check()


def test_the_requests_before_were_let_in_and_some_were_right() -> None:
    assert seen[200] > 10
    assert seen[202] > 10
    assert seen[401] == 0
