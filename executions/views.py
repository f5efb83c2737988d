"""The page on which an approval is given by whoever has its link; no login is needed."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_protect
from django.views.decorators.http import require_http_methods

from executions import approvals, report, states
from executions.models import NodeRun
from executions.triggers import decide_approval
from workflows.admin.cells import moment

logger = logging.getLogger(__name__)

BY_LINK: Final = "link"
"""Who is recorded as the one who decided, when it was done by the link without a login."""
LONGEST_COMMENT: Final = 2_000
DECISIONS: Final = {"approve": True, "reject": False}


@dataclass(frozen=True, slots=True)
class Notice:
    """What a page says instead of the question."""

    title: str
    text: str
    status: int
    pill: str = ""


UNKNOWN = Notice("There is no such approval", "The link is not complete, or what it asked about was deleted.", 404)


@never_cache
@csrf_protect
@require_http_methods(["GET", "HEAD", "POST"])
def approval(request: HttpRequest, token: str) -> HttpResponse:
    """Show what is asked, and take the answer. 404 for a link that means nothing, 410 for one that is used up."""
    run = _run(token)
    if run is None:
        return _page(request, notice=UNKNOWN)
    if not _waits(run):
        return _page(request, run, _over(run))
    if request.method != "POST":
        return _page(request, run)
    approved = DECISIONS.get(request.POST.get("decision", ""))
    comment = request.POST.get("comment", "").strip().replace("\x00", "")
    if approved is None or len(comment) > LONGEST_COMMENT:
        problem = (
            "Choose Approve or Reject."
            if approved is None
            else f"The comment is longer than {LONGEST_COMMENT:,} characters."
        )
        return _page(request, run, problem=problem, comment=comment, status=400)
    by = request.user.get_username() or BY_LINK
    if not decide_approval(run.execution_id, run.node_index, approved, comment, by):
        run.refresh_from_db()
        return _page(request, run, _over(run))
    word = "approved" if approved else "rejected"
    logger.info("node %s of execution %s was %s by link (%s)", run.node_id, run.execution_id, word, by)
    text = "The workflow goes on. You can close this page."
    return _page(request, run, Notice(word.capitalize(), text, 200, _pill(approved)))


def _run(token: str) -> NodeRun | None:
    """Return the node run that a link is about, or None."""
    read = approvals.read_token(token)
    if read is None:
        return None
    execution_id, node_index = read
    rows = NodeRun.objects.select_related("execution__workflow", "execution__version", "execution__owner")
    found: NodeRun | None = rows.filter(execution=execution_id, node_index=node_index).order_by("-iteration").first()
    return found


def _waits(run: NodeRun) -> bool:
    ended = run.execution.is_terminal or run.execution.cancel_requested
    return run.status == states.WAITING and run.wait_kind == NodeRun.APPROVAL and not ended


def _over(run: NodeRun) -> Notice:
    """Return why nothing can be decided any more."""
    try:
        answer: dict[str, Any] = json.loads(run.resume or "{}")
    except ValueError:
        answer = {}
    if isinstance(answer.get("approved"), bool):
        word = "approved" if answer["approved"] else "rejected"
        by = "by link" if answer.get("by") == BY_LINK else f"by {answer.get('by') or 'somebody'}"
        return Notice(
            f"Already {word}", f"This was {word} {by}. The first decision counts.", 410, _pill(answer["approved"])
        )
    if answer.get("reason") == NodeRun.TIMER:
        return Notice("Too late", "The time to decide has passed, and the workflow went on without an answer.", 410)
    return Notice("No longer needed", "The execution has ended or does not wait for this any more.", 410)


def _pill(approved: bool) -> str:
    return states.COMPLETED if approved else states.FAILED


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def _page(
    request: HttpRequest, run: NodeRun | None = None, notice: Notice | None = None, *,
    problem: str = "", comment: str = "", status: int = 200,
) -> HttpResponse:  # fmt: skip
    wait = (
        next((found for found in report.waiting(run.execution) if found["node_id"] == run.node_id), {}) if run else {}
    )
    context = {
        "title": notice.title if notice else wait.get("title") or "Approval",
        "site_title": "Flow Builder",
        "site_header": "Flow Builder",
        "execution": run.execution if run else None,
        "short_id": str(run.execution_id)[:8] if run else "",
        "wait": wait,
        "asked": moment(_time(wait.get("since"))),
        "until": _time(wait.get("until")) and moment(_time(wait["until"])),
        "notice": notice,
        "problem": problem,
        "comment": comment,
        "longest_comment": LONGEST_COMMENT,
    }
    return TemplateResponse(request, "approvals/approval.html", context, status=notice.status if notice else status)
