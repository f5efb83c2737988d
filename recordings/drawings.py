"""A run as a picture: Graphviz DOT, SVG, HTML and mermaid; and as a trace for profilers.

All draw the same: a box per node, with its seconds and the colour of its status, grouped by phase; solid lines for
the edges of the workflow, where the recording has them, dashed ones for the order in which nodes started. Names
are shown, never obeyed: whatever a node is called, the text stays valid and opens nothing.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from typing import Any, Protocol

from recordings.events import RecordingEvent, RecordingEventType, RecordingMetadata
from recordings.timing import NodeTimes, Outline, critical_path_of, first_error, outline, seconds_of

MOST_DRAWN = 1000
"""SVG, HTML and mermaid draw so many nodes and say how many are left out; DOT has all."""

_LONGEST_NAME = 300
_SHOWN_NAME = 28
_COLOURS = {
    "completed": "#1a7f37",
    "failed": "#cf222e",
    "skipped": "#6e7781",
    "running": "#0969da",
    "retrying": "#bc4c00",
    "waiting": "#9a6700",
}
_UNSEEN = {
    **{code: 0x2400 + code for code in range(32)},
    10: 10, 127: 0x2421, 0xFFFE: 0xFFFD, 0xFFFF: 0xFFFD, 0x2028: 10, 0x2029: 10, 0x85: 10,
}  # fmt: skip


class Drawable(Protocol):
    """What drawings need of a replayer."""

    metadata: RecordingMetadata
    events: Sequence[RecordingEvent]


def visible(text: Any) -> str:
    """Return ``text`` for people: cut at 300 characters, control characters as pictures (``␀``), half surrogates
    as ``\\udXXX``."""
    shown = str(text)
    if len(shown) > _LONGEST_NAME:
        shown = shown[:_LONGEST_NAME] + "…"
    return shown.encode("utf-8", "backslashreplace").decode().translate(_UNSEEN)


# --------------------------------------------------------------------------- Graphviz


def to_dot(recording: Drawable) -> str:
    """Return the run as a Graphviz graph, for ``dot -Tsvg`` or ``dot -Tpng``. Every node is in it."""
    run = outline(recording.events)
    names = _names(run)
    lines = ["digraph workflow_execution {", "  rankdir=TD;", "  node [shape=box];"]
    for phase, nodes in _phases(run.nodes.values()):
        inside = [
            f'{names[node.node_id]} [label="{_dot_label(node.node_id)}\\n({node.seconds:.2f}s)",'
            f' color="{_COLOURS[node.status]}", tooltip="{_dot_label(_hint(node))}"];'
            for node in nodes
        ]
        if phase is None:
            lines += [f"  {line}" for line in inside]
        else:
            lines += [f"  subgraph cluster_phase_{phase} {{", f'    label="Phase {phase + 1}";', "    style=dotted;"]
            lines += [*(f"    {line}" for line in inside), "  }"]
    solid, dashed = _edges(run)
    lines += [f"  {names[source]} -> {names[target]};" for source, target in solid]
    lines += [f"  {names[source]} -> {names[target]} [style=dashed];" for source, target in dashed]
    return "\n".join([*lines, "}"]) + "\n"


def _names(run: Outline) -> dict[str, str]:
    """Return a quoted DOT name for each node; different nodes have different ones."""
    names: dict[str, str] = {}
    taken: set[str] = set()
    for node in run.nodes:
        name = base = _dot_label(node)
        number = 1
        while name in taken:
            number += 1
            name = f"{base} ({number})"
        taken.add(name)
        names[node] = f'"{name}"'
    return names


def _dot_text(text: str) -> str:
    return visible(text).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _dot_label(text: str) -> str:
    return re.sub(r"&(?=#|\w*;)", "&amp;", _dot_text(text))


def _hint(node: NodeTimes) -> str:
    name = f"{node.name}: " if node.name and node.name != node.node_id else ""
    return f"{name}{node.status}, {node.runs} run{'' if node.runs == 1 else 's'}"


def _phases(nodes: Any) -> Iterator[tuple[int | None, list[NodeTimes]]]:
    """Yield the phases in order, each with its nodes; first those outside of all."""
    found: dict[int | None, list[NodeTimes]] = {}
    for node in nodes:
        found.setdefault(node.phase, []).append(node)
    for phase in sorted(found, key=lambda number: -1 if number is None else number):
        yield phase, found[phase]


def _edges(run: Outline) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Return the edges of the workflow between nodes of the run, and the order of starts that they do not say."""
    solid = [edge for edge in run.wires if edge[0] in run.nodes and edge[1] in run.nodes]
    drawn = set(solid)
    return solid, [edge for edge in run.order if edge not in drawn]


# --------------------------------------------------------------------------- SVG

_ROW, _GAP, _HEIGHT, _MARGIN, _TITLE = 96, 24, 48, 24, 22


@dataclass(slots=True)
class _Box:
    node: NodeTimes
    left: float
    top: float
    width: float

    @property
    def middle(self) -> float:
        return self.left + self.width / 2


def to_svg(recording: Drawable) -> str:
    """Return the run as one SVG picture: no script, no style sheet, nothing from elsewhere."""
    return _svg(recording, outline(recording.events))


def _svg(recording: Drawable, run: Outline) -> str:
    run, left_out = _limited(run)
    rows = _rows(run)
    boxes, width = _placed(rows)
    height = _MARGIN * 2 + len(rows) * _ROW + (_TITLE if left_out else 0)
    title = escape(visible(recording.metadata.workflow_name))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height}" width="{width:.0f}"'
        f' height="{height}" role="img" font-family="system-ui, sans-serif" font-size="13">',
        f"<title>Run of {title}</title>",
        '<defs><marker id="arrow" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
        '<path d="M0 0 L8 4 L0 8 z" fill="#57606a"/></marker></defs>',
        f'<rect width="{width:.0f}" height="{height}" fill="#ffffff"/>',
        *_svg_phases(rows, width),
        *_svg_edges(run, boxes),
        *(_svg_box(box) for box in boxes.values()),
    ]
    if left_out:
        text = f"… and {left_out:,} more nodes"
        parts.append(f'<text x="{_MARGIN}" y="{height - _MARGIN}" fill="#57606a">{text}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def _limited(run: Outline) -> tuple[Outline, int]:
    if len(run.nodes) <= MOST_DRAWN:
        return run, 0
    return Outline(dict(list(run.nodes.items())[:MOST_DRAWN]), run.wires, _drawn_order(run)), len(
        run.nodes
    ) - MOST_DRAWN


def _drawn_order(run: Outline) -> dict[tuple[str, str], None]:
    drawn = set(list(run.nodes)[:MOST_DRAWN])
    return {edge: None for edge in run.order if edge[0] in drawn and edge[1] in drawn}


def _rows(run: Outline) -> list[tuple[int | None, list[NodeTimes]]]:
    """Return the nodes in rows: by phase; without phases by the edges of the workflow, else one under the other."""
    nodes = list(run.nodes.values())
    if any(node.phase is not None for node in nodes):
        return list(_phases(nodes))
    solid, _ = _edges(run)
    rank = {name: place for place, name in enumerate(run.nodes)}
    depth = dict.fromkeys(run.nodes, 0) if solid else rank
    into: dict[str, list[str]] = {}
    for source, target in solid:
        if rank[source] < rank[target]:
            into.setdefault(target, []).append(source)
    for name in run.nodes if solid else ():
        depth[name] = max((depth[source] + 1 for source in into.get(name, ())), default=0)
    found: dict[int, list[NodeTimes]] = {}
    for node in nodes:
        found.setdefault(depth[node.node_id], []).append(node)
    return [(None, found[number]) for number in sorted(found)]


def _placed(rows: list[tuple[int | None, list[NodeTimes]]]) -> tuple[dict[str, _Box], float]:
    widths = [[_box_width(node) for node in nodes] for _, nodes in rows]
    lengths = [sum(row) + _GAP * (len(row) - 1) for row in widths]
    width = max(lengths, default=0.0) + _MARGIN * 4
    boxes: dict[str, _Box] = {}
    for number, (_, nodes) in enumerate(rows):
        left = (width - lengths[number]) / 2
        for node, wide in zip(nodes, widths[number], strict=True):
            boxes[node.node_id] = _Box(node, left, _MARGIN + number * _ROW + _TITLE, wide)
            left += wide + _GAP
    return boxes, max(width, 240.0)


def _box_width(node: NodeTimes) -> float:
    return max(110.0, 24 + 8.0 * len(_shown(node.node_id)))


def _shown(text: str) -> str:
    line = visible(text).replace("\n", "␤")
    return line if len(line) <= _SHOWN_NAME else line[: _SHOWN_NAME - 1] + "…"


def _svg_phases(rows: list[tuple[int | None, list[NodeTimes]]], width: float) -> Iterator[str]:
    for number, (phase, _) in enumerate(rows):
        if phase is not None:
            top = _MARGIN + number * _ROW
            yield (
                f'<rect x="8" y="{top}" width="{width - 16:.0f}" height="{_ROW - 8}" rx="6" fill="#f6f8fa"'
                f' stroke="#d0d7de" stroke-dasharray="2 3"/>'
                f'<text x="16" y="{top + 15}" fill="#57606a" font-size="11">Phase {phase + 1}</text>'
            )


def _svg_edges(run: Outline, boxes: dict[str, _Box]) -> Iterator[str]:
    solid, dashed = _edges(run)
    for edges, style in ((solid, ""), (dashed, ' stroke-dasharray="5 4"')):
        for source, target in edges:
            a, b = boxes[source], boxes[target]
            if b.top > a.top:
                start, end, bend = (a.middle, a.top + _HEIGHT), (b.middle, b.top), 24
            elif b.top == a.top and b.left > a.left:
                start, end, bend = (a.left + a.width, a.top + _HEIGHT / 2), (b.left, b.top + _HEIGHT / 2), 0
            else:
                start, end, bend = (a.middle, a.top), (b.middle, b.top + _HEIGHT), -24
            yield (
                f'<path d="M{start[0]:.1f} {start[1]:.1f} C{start[0]:.1f} {start[1] + bend:.1f} {end[0]:.1f}'
                f' {end[1] - bend:.1f} {end[0]:.1f} {end[1]:.1f}" fill="none" stroke="#57606a"{style}'
                ' marker-end="url(#arrow)"/>'
            )


def _svg_box(box: _Box) -> str:
    node, colour = box.node, _COLOURS[box.node.status]
    return (
        f"<g><title>{escape(visible(node.node_id))} ({escape(visible(_hint(node)))})</title>"
        f'<rect x="{box.left:.1f}" y="{box.top}" width="{box.width:.1f}" height="{_HEIGHT}" rx="6" fill="#ffffff"'
        f' stroke="{colour}" stroke-width="2"/>'
        f'<text x="{box.middle:.1f}" y="{box.top + 20}" text-anchor="middle" fill="#1f2328">'
        f"{escape(_shown(node.node_id))}</text>"
        f'<text x="{box.middle:.1f}" y="{box.top + 37}" text-anchor="middle" fill="{colour}" font-size="11">'
        f"{node.status} ({node.seconds:.2f}s)</text></g>"
    )


# --------------------------------------------------------------------------- HTML

_CSS = (
    "body{font:14px/1.5 system-ui,sans-serif;color:#1f2328;margin:2rem auto;max-width:72rem;padding:0 1rem}"
    "figure{margin:1rem 0;overflow:auto}table{border-collapse:collapse}th,td{padding:.2rem .8rem;text-align:left;"
    "border-bottom:1px solid #d0d7de}td.n{text-align:right;font-variant-numeric:tabular-nums}"
    "pre{white-space:pre-wrap;background:#f6f8fa;padding:.8rem;border-radius:6px}"
)


def to_html(recording: Drawable) -> str:
    """Return the run as one HTML page: facts, the SVG picture, the first error, durations, the critical path.

    No script and nothing from elsewhere; its own Content-Security-Policy allows only its one style sheet.
    """
    run, metadata = outline(recording.events), recording.metadata
    allowed = base64.b64encode(hashlib.sha256(_CSS.encode()).digest()).decode()
    name = escape(visible(metadata.workflow_name))
    outcome = {True: "success", False: "failed"}.get(metadata.success, "unfinished")  # type: ignore[arg-type]
    facts = [
        ("Recording", metadata.recording_id),
        ("Outcome", outcome),
        ("Started", _moment(metadata.started_at)),
        ("Duration", f"{seconds_of(metadata.duration_seconds):.2f} s"),
        ("Events", f"{len(recording.events):,}"),
    ]
    error = first_error(recording.events)
    trouble = "" if error is None else f"<h2>First error</h2>\n<pre>{_error_text(error)}</pre>\n"
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f"<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'sha256-{allowed}'\">\n"
        f'<meta name="viewport" content="width=device-width">\n<title>Run of {name}</title>\n<style>{_CSS}</style>\n'
        f"</head>\n<body>\n<h1>{name}</h1>\n<table>\n{_html_rows(facts)}</table>\n"
        f"<figure>\n{_svg(recording, run)}</figure>\n{trouble}"
        f"<h2>Durations</h2>\n{_html_nodes(run)}<h2>Critical path</h2>\n{_html_path(run)}</body>\n</html>\n"
    )


def _html_rows(rows: list[tuple[str, Any]]) -> str:
    return "".join(f"<tr><th>{escape(head)}</th><td>{escape(visible(value))}</td></tr>\n" for head, value in rows)


def _html_nodes(run: Outline) -> str:
    nodes = sorted(run.nodes.values(), key=lambda node: (-node.seconds, node.node_id))
    rows = "".join(
        f'<tr><td>{escape(visible(node.node_id))}</td><td>{node.status}</td><td class="n">{node.runs}</td>'
        f'<td class="n">{node.seconds:.3f}</td></tr>\n'
        for node in nodes[:MOST_DRAWN]
    )
    return f"<table>\n<tr><th>Node</th><th>Status</th><th>Runs</th><th>Seconds</th></tr>\n{rows}</table>\n"


def _html_path(run: Outline) -> str:
    steps = critical_path_of(run)[:MOST_DRAWN]
    if not steps:
        return "<p>No node ended.</p>\n"
    items = "".join(f"<li>{escape(visible(node))} ({seconds:.3f} s)</li>\n" for node, seconds in steps)
    return f"<ol>\n{items}</ol>\n"


def _error_text(event: RecordingEvent) -> str:
    text = event.data.get("error")
    place = "the run" if event.node_id is None else event.node_id
    return f"{escape(visible(place))}: {escape(visible(text or 'failed without a message'))}"


def _moment(timestamp: Any) -> str:
    try:
        return f"{datetime.fromtimestamp(timestamp, UTC):%Y-%m-%d %H:%M:%S} UTC"
    except (TypeError, ValueError, OverflowError, OSError):
        return "unknown"


# --------------------------------------------------------------------------- mermaid


def to_mermaid(recording: Drawable) -> str:
    """Return the run as a mermaid flowchart."""
    run, left_out = _limited(outline(recording.events))
    names = {node: f"n{number}" for number, node in enumerate(run.nodes)}
    lines = ["flowchart TD"]
    for phase, nodes in _phases(run.nodes.values()):
        inside = [
            f'{names[node.node_id]}["{_mermaid(_shown(node.node_id))}<br/>({node.seconds:.2f}s)"]:::{node.status}'
            for node in nodes
        ]
        if phase is None:
            lines += [f"  {line}" for line in inside]
        else:
            lines += [f'  subgraph phase{phase}["Phase {phase + 1}"]', *(f"    {line}" for line in inside), "  end"]
    if left_out:
        lines.append(f'  more["… and {left_out:,} more nodes"]')
    solid, dashed = _edges(run)
    lines += [f"  {names[source]} --> {names[target]}" for source, target in solid]
    lines += [f"  {names[source]} -.-> {names[target]}" for source, target in dashed]
    lines += [f"  classDef {status} stroke:{colour},stroke-width:2px" for status, colour in _COLOURS.items()]
    return "\n".join(lines) + "\n"


def _mermaid(text: str) -> str:
    """Return text for a quoted mermaid label: whatever is not a letter, a digit or a harmless sign as its number."""
    return "".join(sign if sign.isalnum() or sign in " _-.,…" else f"#{ord(sign)};" for sign in text)


# --------------------------------------------------------------------------- traces


def to_trace(recording: Drawable) -> str:
    """Return the run in the Trace Event Format (JSON), which Perfetto and chrome://tracing show.

    A lane per node; every end of a node is a bar of its duration, other events are marks. Times are microseconds.
    """
    lanes: dict[str, int] = {}
    entries = [entry for event in recording.events for entry in _traced(event, lanes)]
    names = [
        {"ph": "M", "name": "thread_name", "pid": 1, "tid": lane, "args": {"name": visible(name)}}
        for name, lane in lanes.items()
    ]
    return json.dumps({"displayTimeUnit": "ms", "traceEvents": [*names, *entries]})


def _traced(event: RecordingEvent, lanes: dict[str, int]) -> Iterator[dict[str, Any]]:
    kind, at = event.event_type, seconds_of(event.timestamp) * 1_000_000
    lane = lanes.setdefault(event.node_id or "run", len(lanes) + 1)
    common = {"name": visible(event.node_id or kind.value), "cat": visible(kind.value), "pid": 1, "tid": lane}
    if kind in (RecordingEventType.NODE_COMPLETE, RecordingEventType.NODE_ERROR):
        took = seconds_of(event.data.get("duration_seconds")) * 1_000_000
        yield {**common, "ph": "X", "ts": at - took, "dur": took}
    elif kind is not RecordingEventType.NODE_START:
        yield {**common, "ph": "i", "s": "t", "ts": at}


FORMATS: dict[str, Callable[[Drawable], str]] = {
    "dot": to_dot,
    "svg": to_svg,
    "html": to_html,
    "mermaid": to_mermaid,
}


def draw(recording: Drawable, form: str) -> str:
    """Return the run in one of ``FORMATS``.

    Raises:
        ValueError: there is no such format.
    """
    if form not in FORMATS:
        raise ValueError(f'there is no drawing format "{form}"; there are {", ".join(FORMATS)}')
    return FORMATS[form](recording)
