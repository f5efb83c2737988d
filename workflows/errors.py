"""Errors about what should run.

* WorkflowError          base; the message names the thing, the place and the way out
  - DefinitionError      the JSON is not a workflow; ``path`` says where in it
  - TemplateError        a ``{{ }}`` expression cannot be read or has no value; ``position`` counts characters
    - MissingValue       the expression is fine, the value it names is not there
  - UnknownNodeType      no such node type is registered
  - CredentialError      a credential is missing, foreign, expired or unreadable
    - CredentialRefused  what is to be stored does not fit; ``problems`` name the fields
    - CredentialTaken    what is to be stored has the name of another one
    - CredentialInUse    it is not deleted, because ``workflows`` name it
  - TokenError           an API token cannot be made as it was asked for
  - WebhookError         a webhook cannot be made or changed as it was asked for
  - TransitionError      a workflow cannot go from this status to that one
    - ActivationRefused  it has errors; ``findings`` are all of them
  - InsufficientCredits  the balance of an owner does not cover what is to run; the numbers are in it
  - UnknownWorkflow      no workflow of this name or id that the user may see
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from workflows.findings import Finding
    from workflows.kinds import Problem
    from workflows.models import Workflow


class WorkflowError(Exception):
    """Something is wrong with a workflow, before it runs."""


class DefinitionError(WorkflowError):
    """The JSON is not a workflow. ``path`` is where, for example ``nodes[3].id``."""

    def __init__(self, message: str, path: str = "") -> None:
        super().__init__(f"{path}: {message}" if path else message)
        self.path = path


class TemplateError(WorkflowError):
    """A template cannot be parsed or rendered. ``position`` is the offset in the text."""

    def __init__(self, message: str, position: int = 0) -> None:
        super().__init__(message)
        self.position = position


class MissingValue(TemplateError):
    """The template is valid but the value that it names does not exist."""


class UnknownNodeType(WorkflowError):
    """No node type of this name is registered."""


class CredentialError(WorkflowError):
    """A credential is missing, belongs to someone else, has expired, or cannot be decrypted."""


class CredentialRefused(CredentialError):
    """A credential is not stored. ``problems`` are all reasons, by field."""

    def __init__(self, name: str, problems: Sequence[Problem]) -> None:
        super().__init__(f'credential "{name}": ' + "; ".join(map(str, problems)))
        self.problems = problems


class CredentialTaken(CredentialError):
    """A credential is not stored, because another one of its owner has this name."""

    def __init__(self, name: str) -> None:
        super().__init__(f'there is already a credential "{name}"; change it, or choose another name')


class CredentialInUse(CredentialError):
    """A credential is not deleted while workflows name it. ``workflows`` are they."""

    def __init__(self, name: str, workflows: Sequence[Workflow]) -> None:
        shown = ", ".join(f'"{workflow.name}"' for workflow in workflows[:10])
        more = f" and {len(workflows) - 10} more" if len(workflows) > 10 else ""
        super().__init__(
            f'credential "{name}" is used by {shown}{more}; change them first, or delete it all the same (force)'
        )
        self.workflows = workflows


class TokenError(WorkflowError):
    """An API token cannot be made: its name, scopes or end."""


class WebhookError(WorkflowError):
    """A webhook cannot be made or changed: its name, methods or grace."""


class TransitionError(WorkflowError):
    """A workflow cannot move from its status to the wanted one."""


class ActivationRefused(TransitionError):
    """A workflow has errors, so it is not activated (or imported). ``findings`` are the errors."""

    def __init__(self, message: str, findings: Sequence[Finding]) -> None:
        super().__init__(message)
        self.findings = findings


class InsufficientCredits(WorkflowError):
    """A balance does not cover what is wanted. ``needs``, ``available`` and ``reserved`` are credits."""

    code = "insufficient_credits"

    def __init__(self, what: str, needs: int, available: int, reserved: int = 0, running: int = 0) -> None:
        held = f", {reserved} reserved by {running} running execution{'' if running == 1 else 's'}" if reserved else ""
        super().__init__(
            f"{what} needs {needs} credit{'' if needs == 1 else 's'}, {available} available{held};"
            " ask an administrator for more"
            + (", or wait: what running executions do not use comes back" if reserved else "")
        )
        self.what, self.needs, self.available, self.reserved, self.running = what, needs, available, reserved, running


class UnknownWorkflow(WorkflowError):
    """The user has no workflow of this name or id."""
