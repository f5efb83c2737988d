"""Nodes that take data out of HTML text. The page itself is the business of ``browser``."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

from selectolax.lexbor import LexborHTMLParser, LexborNode, SelectolaxError

from executions.errors import NodeInputError
from executions.nodes.base import Environment, NodeCall, NodeExecutor
from executions.nodes.inputs import as_number
from workflows.registry import NodeDescription, Port, register

LARGE_HTML = 64 * 1024
Result = TypeVar("Result")


async def _parse_aside(html: str, work: Callable[[], Result]) -> Result:
    """Run ``work``; in a thread if the page is large, so that other nodes go on meanwhile."""
    return await asyncio.to_thread(work) if len(html) > LARGE_HTML else work()


def _select(tree: LexborHTMLParser, selector: str, node_name: str) -> list[LexborNode]:
    try:
        return tree.css(selector)
    except (SelectolaxError, ValueError) as error:
        raise NodeInputError(f'input "Selector" of node "{node_name}": "{selector}" is not a CSS selector') from error


@register
class GetTextFromHtml(NodeExecutor):
    """Read the text (or an attribute) of the elements that a CSS selector matches."""

    description = NodeDescription(
        type="get_text_from_html",
        label="Get Text From HTML",
        group="Data Extraction",
        credits=2,
        start=True,
        summary="Reads the text of all elements that match a CSS selector.",
        subtitle="Selector",
        inputs=(
            Port("Html", required=True, variant="textarea"),
            Port("Selector", required=True, placeholder=".product h3", help="A CSS selector."),
            Port("Separator", default=" ", help="Put between the texts of several matches."),
            Port("Multiple", "BOOLEAN", default=False, handle=False, help="Also give the matches as the list Texts."),
            Port("Attribute", help="Read this attribute instead of the text.", placeholder="href"),
            Port(
                "If Missing",
                "SELECT",
                default="error",
                options=("error", "empty"),
                handle=False,
                help="What to do when nothing matches.",
            ),
        ),
        outputs=(Port("Text"), Port("Texts", "LIST", help="Filled when Multiple is on.")),
    )

    async def run(self, node: NodeCall, env: Environment) -> dict[str, Any]:
        """Select, strip and join."""
        inputs = self.inputs(node)
        html, selector, attribute = inputs.text("Html"), inputs.text("Selector"), inputs.text("Attribute")

        def read() -> list[str]:
            matches = _select(LexborHTMLParser(html), selector, node.name)
            if not attribute:
                return [match.text(separator="").strip() for match in matches]
            found = (match.attributes.get(attribute) for match in matches)
            return [value.strip() for value in found if value is not None]

        texts = await _parse_aside(html, read)
        what = f'attribute "{attribute}" of "{selector}"' if attribute else f'"{selector}"'
        if not texts and inputs.choice("If Missing") == "error":
            env.log(f"Nothing matches {what}", level="warning")
            raise NodeInputError(
                f'node "{node.name}": nothing in the HTML ({len(html)} characters) matches {what}', code="no_match"
            )
        env.log(f"{what} matched {len(texts)}")
        outputs: dict[str, Any] = {"Text": inputs.text("Separator").join(texts)}
        if inputs.boolean("Multiple"):
            outputs["Texts"] = texts
        return outputs


@register
class CondenseHtml(NodeExecutor):
    """Drop what people do not see and cut the rest to a length."""

    description = NodeDescription(
        type="condense_html",
        label="Condense HTML",
        group="Data Extraction",
        credits=2,
        start=True,
        summary="Removes scripts, styles and comments, keeps what a selector matches, cuts to a length.",
        inputs=(
            Port("Html", required=True, variant="textarea"),
            Port("Selector", help="Keep only the elements that match."),
            Port("Max Length", "NUMBER", min=0, help="Cut longer results; empty keeps everything."),
        ),
        outputs=(Port("Reduced Html", aliases=("Condensed Html",)),),
    )

    async def run(self, node: NodeCall, env: Environment) -> dict[str, Any]:
        """Return the condensed HTML; an unusable Max Length counts as none."""
        inputs = self.inputs(node)
        html, selector = inputs.text("Html"), inputs.text("Selector").strip()
        longest = as_number(inputs.value("Max Length"))

        def condense() -> str:
            tree = LexborHTMLParser(html)
            for unwanted in tree.css("script, style, noscript, template"):
                unwanted.decompose()
            _remove_comments(tree)
            if selector:
                return "\n".join(match.html or "" for match in _select(tree, selector, node.name))
            body = tree.body
            return (body.html if body is not None else tree.html) or ""

        reduced = await _parse_aside(html, condense)
        if selector and not reduced:
            env.log(f'Nothing matches "{selector}"')
        if longest is not None and 0 <= longest < len(reduced):
            reduced = reduced[: int(longest)] + "..."
        env.log(f"Condensed {len(html)} to {len(reduced)} characters", before=len(html), after=len(reduced))
        return {"Reduced Html": reduced, "Condensed Html": reduced}


def _remove_comments(tree: LexborHTMLParser) -> None:
    root = tree.root
    if root is None:
        return
    for comment in [item for item in root.traverse(include_text=True) if item.is_comment_node]:
        comment.decompose()
