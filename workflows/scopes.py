"""Which nodes are the body of which loop.

A loop has two kinds of outputs: those *inside* (``Item``, ``Index`` …), which exist once per turn, and those
after it (``Results``, ``Done`` …). Its body is everything that the inside outputs lead to. A wire from the
body back into a *returning* input of the loop names what a turn gives; it is no dependency.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

from workflows.errors import DefinitionError

DEEPEST = 8
"""How many loops may lie around a node; no execution runs inside more others."""


@dataclass(frozen=True, slots=True)
class Link:
    """A dependency: ``target`` reads ``output`` of ``source``; None stands for all outputs at once."""

    source: str
    output: str | None
    target: str


@dataclass(frozen=True, slots=True)
class Problem:
    """Something about a loop that cannot be run; ``node_id`` is where to show it."""

    node_id: str
    message: str


class Scopes:
    """The bodies of all loops of a definition. O(nodes + links): no node counts more often than loops may nest."""

    def __init__(self, links: Iterable[Link], loops: Mapping[str, Collection[str]]) -> None:
        """``loops`` names the inside outputs of each loop by its node id."""
        self._links = list(links)
        self._loops = loops
        followers: dict[str, list[Link]] = defaultdict(list)
        for link in self._links:
            followers[link.source].append(link)
        self.bodies: dict[str, frozenset[str]] = dict.fromkeys(loops, frozenset())
        """Loop -> the nodes inside it, those of loops within it included; all empty when there is ``too_deep``."""
        self.too_deep: Problem | None = None
        """A node inside more loops than may nest, or None."""
        around: dict[str, list[str]] = defaultdict(list)
        for loop, inside in loops.items():
            self.bodies[loop] = body = _body(loop, inside, followers)
            for node_id in body:
                around[node_id].append(loop)
            deep = next((node_id for node_id in body if len(around[node_id]) > DEEPEST), None)
            if deep is not None:
                self.too_deep = Problem(
                    deep, f'"{deep}" is inside more than {DEEPEST} loops; move some into a workflow of its own'
                )
                self.bodies = dict.fromkeys(loops, frozenset())
                around.clear()
                break
        self._around = {
            node_id: sorted(names, key=lambda name: len(around.get(name, ()))) for node_id, names in around.items()
        }

    def around(self, node_id: str) -> list[str]:
        """Return the loops that ``node_id`` is inside of, the outermost first."""
        return self._around.get(node_id, [])

    def scope(self, node_id: str) -> str:
        """Return the innermost loop around ``node_id``, or an empty text."""
        around = self.around(node_id)
        return around[-1] if around else ""

    def problems(self) -> Iterator[Problem]:
        """Yield what is wrong: a node of a body that also follows the loop, bodies that overlap."""
        if self.too_deep is not None:
            yield self.too_deep
        for loop, body in self.bodies.items():
            if loop in body:
                yield Problem(loop, f'"{loop}" is inside its own body')
        for link in self._links:
            inside = self._loops.get(link.source)
            if inside is None or link.output is None or link.output in inside:
                continue
            if link.target in self.bodies[link.source]:
                yield Problem(
                    link.target,
                    f'"{link.target}" is inside the loop "{link.source}" and cannot read its "{link.output}", '
                    "which exists only when the loop has ended",
                )
        for node_id, around in self._around.items():
            for outer, inner in pairwise(around):
                if inner not in self.bodies[outer] and outer not in self.bodies[inner]:
                    yield Problem(node_id, f'"{node_id}" is inside the loops "{outer}" and "{inner}", which overlap')

    def check(self) -> None:
        """Raise DefinitionError with the first problem, if there is one."""
        for problem in self.problems():
            raise DefinitionError(problem.message)


def _body(loop: str, inside: Collection[str], followers: Mapping[str, list[Link]]) -> frozenset[str]:
    queue = [link.target for link in followers.get(loop, ()) if link.output in inside]
    seen: set[str] = set()
    while queue:
        node_id = queue.pop()
        if node_id in seen:
            continue
        seen.add(node_id)
        queue.extend(link.target for link in followers.get(node_id, ()))
    return frozenset(seen)
