"""A log line of any length is stored cut, says how long it was, and hides its secrets."""

from __future__ import annotations

import pytest

from executions.events import load_logs
from monitoring.wire import FRAME_BYTES, entry
from recordings.events import LINE_CHARACTERS
from recordings.models import Event
from tests.conftest import node
from workflows import credentials

pytestmark = [pytest.mark.redis, pytest.mark.postgres]
SECRET = "s3cr3t-" * 10


def test_fault_39_a_line_of_24_megabytes_is_cut_where_it_is_stored(run, alice):
    credentials.save(alice, "login", "generic", {"password": SECRET})

    execution = run([node("odd", "test_rambles", Kind={"$credential": "login", "field": "password"})])

    assert execution.status == "completed", execution.error
    logs, _ = load_logs(execution.pk, 0, 100)
    line = next(log for log in logs if log["event"] == "log")
    assert len(line["message"]) == LINE_CHARACTERS
    assert line["message"].endswith("y… (23,999,933 characters)")  # three stars are left of the secret
    assert "s3cr" not in line["message"]
    assert sum(len(row.data) for row in Event.objects.filter(execution_id=execution.pk)) < 1_000_000
    own = next(log for log in logs if log["event"] == "mine")
    assert len(own["message"]) == len(own["error_message"]) == LINE_CHARACTERS
    assert all(entry(log).size < FRAME_BYTES for log in logs)
