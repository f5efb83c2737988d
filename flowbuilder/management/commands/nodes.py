"""``./flow nodes``: which node types exist and what they take and give."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any

from rich.console import Console
from rich.table import Table

from flowbuilder.management.base import ProductCommand
from workflows.api.node_types import node_type_json, node_types
from workflows.registry import NODE_REGISTRY


class Command(ProductCommand):
    """Look up node types."""

    help = "List node types, and show what one takes and gives."
    examples = ("./flow nodes list", "./flow nodes show get_html", "./flow nodes list --json")

    def add_verbs(self) -> None:
        """Define the subcommands."""
        self.verb(
            "list", self.list_all, "List all node types in palette order.", examples=("./flow nodes list --json",)
        )
        parser = self.verb(
            "show",
            self.show,
            "Show the inputs and outputs of one node type.",
            examples=("./flow nodes show branch --json",),
        )
        parser.add_argument("type", metavar="TYPE")

    def list_all(self, options: dict[str, Any]) -> None:
        """List all types."""
        shown = [node_type_json(description) for description in node_types()]

        def table(console: Console) -> None:
            grid = Table("Type", "Label", "Group", "Credits", "Starts", box=None)
            for one in shown:
                start = "yes" if one["start"] else ""
                grid.add_row(one["type"], one["label"], one["group"], str(one["credits"]), start)
            console.print(grid)

        self.emit(shown, table)

    def show(self, options: dict[str, Any]) -> None:
        """Show one type."""
        name = options["type"]
        if name not in NODE_REGISTRY:
            near = get_close_matches(name, NODE_REGISTRY, n=1)
            hint = f'; did you mean "{near[0]}"?' if near else "; ./flow nodes list shows what exists"
            self.fail(f'there is no node type "{name}"{hint}')
        shown = node_type_json(NODE_REGISTRY[name].description)

        def page(console: Console) -> None:
            cost = f"{shown['credits']} credit{'' if shown['credits'] == 1 else 's'}"
            start = ", may start a workflow" if shown["start"] else ""
            console.print(f"{shown['label']} ({name}), {shown['group']}, {cost}{start}")
            if shown["summary"]:
                console.print(shown["summary"])
            inputs = Table("Input", "Type", "Required", "Default", "Options", title="", box=None)
            for port in shown["inputs"]:
                default = "" if port["default"] is None else str(port["default"])
                required = "yes" if port["required"] else ""
                inputs.add_row(port["name"], port["type"], required, default, ", ".join(port["options"]))
            console.print(inputs)
            outputs = Table("Output", "Type", title="", box=None)
            for port in shown["outputs"]:
                outputs.add_row(port["name"], port["type"])
            console.print(outputs)

        self.emit(shown, page)
