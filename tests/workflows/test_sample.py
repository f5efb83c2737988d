"""The sample of the specification: imported as it is, checked, and run by a real worker on a real page."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command

from executions.triggers import start_execution
from tests.conftest import Processes, statuses, wait_until_ended
from workflows.models import Workflow
from workflows.validation import examine


@pytest.mark.browser
@pytest.mark.worker
@pytest.mark.row("S2-04")
@pytest.mark.row("S2-06")
def test_the_sample_of_the_specification_is_imported_checked_and_run(
    processes: Processes, alice: Any, sample: dict[str, Any], site_url: str, tmp_path: Path
) -> None:
    # Its page is on the internet; the one of the test site takes its place, everything else stays letter for letter.
    sample["nodes"][0]["data"]["inputs"]["Website URL"] = f"{site_url}/form.html"
    path = tmp_path / "sample.json"
    path.write_text(json.dumps(sample))
    assert [(finding.code, finding.severity) for finding in examine(sample)] == [("DANGLING_EDGE", "warning")]
    call_command("workflows", "import", str(path), stdout=io.StringIO(), stderr=io.StringIO())
    workflow = Workflow.objects.get()
    assert (workflow.name, workflow.status, workflow.schedule.cron) == ("Workflow Name", "active", "0 9 * * 1-5")

    processes.worker(FLOWBUILDER_EGRESS_ALLOW=site_url.removeprefix("http://"))
    execution = start_execution(workflow, by=alice)
    wait_until_ended(execution, 60, processes.logs)

    assert (execution.status, statuses(execution)) == ("completed", {"node-1": "completed"}), execution.error
