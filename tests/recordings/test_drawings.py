"""Drawings of a run: valid whatever the nodes are called and whatever was recorded."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Sequence
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from recordings import ExecutionRecorder, ExecutionReplayer
from recordings.drawings import FORMATS, MOST_DRAWN, to_dot, to_html, to_mermaid, to_svg, to_trace, visible
from recordings.export import to_summary
from recordings.sealed import SealedRecording
from tests.recordings.test_compare import JSON, STEPS, Step, node, phase, replay

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = [
    'a"]; evil [label="x', "back\\", "\\N\\G", "line\nbreak", "cr\rlf\r\n", "nul\0", "bell\x07", "half \ud800", "",
    "a -> b", "a -- b; }", "<b>bold</b>", "<script>alert(1)</script>", "]]><!--", "&lt;", "&amp;", "&#65;", "a & b",
    "graph", "strict digraph {", "a:port:n", "n0", "#", "//", "/* */", "日本", "\u202eright", "é" * 400, "\ufffe",
    "x\u2028y", "%%{init: {}}%%", 'end', '"', "'", "`", "javascript:alert(1)", "a\x85b", "nul␀",
]  # fmt: skip

NAMES = st.lists(
    st.one_of(
        st.sampled_from(HOSTILE),
        st.text(st.characters(codec=None), max_size=12),
        st.text(st.sampled_from('ab"\\\n\r\0<>&;#-{}[]|'), max_size=8),
    ),
    min_size=1,
    max_size=6,
    unique=True,
)


def run_of(names: Sequence[str], *, phases: bool = True, wires: bool = True) -> ExecutionReplayer:
    """Return a run of nodes with these ids, two in a phase, each wired to the next."""
    steps: list[Step] = []
    if wires:
        edges = [list(pair) for pair in pairwise(names)]
        steps.append(("workflow_start", None, {"edges": edges}))
    for number, name in enumerate(names):
        if phases and number % 2 == 0:
            steps.append(("phase_start", None, {"phase": number // 2}))
        steps += node(name, error=f"no {name}" if number == 1 else None)
    return replay(steps)


def graphviz(dot: str, form: str = "svg") -> str:
    """Return what ``dot`` makes of a graph."""
    program = shutil.which("dot")
    if program is None:
        assert not os.environ.get("CI"), "Graphviz is missing: apt-get install graphviz"
        pytest.skip("Graphviz is not installed: apt-get install graphviz")
    done = subprocess.run(
        [program, f"-T{form}"], input=dot.encode(), capture_output=True, timeout=60, check=False
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()
    assert not re.search(rb"syntax error|ambiguous", done.stderr), done.stderr
    return done.stdout.decode()


def drawn_nodes(svg: str) -> list[list[str]]:
    """Return the lines of text in each node of a picture that Graphviz made."""
    groups = [group for group in ElementTree.fromstring(svg).iter(f"{SVG}g") if group.get("class") == "node"]
    return [["".join(text.itertext()) for text in group.iter(f"{SVG}text")] for group in groups]


# --------------------------------------------------------------------------- Graphviz


@pytest.mark.row("S0-10")
@pytest.mark.parametrize("phases", [True, False])
def test_graphviz_draws_every_hostile_name_as_it_is_shown(phases: bool) -> None:
    svg = graphviz(to_dot(run_of(HOSTILE, phases=phases)))

    shown = Counter("\n".join(lines[:-1]).replace("\xa0", " ").strip() for lines in drawn_nodes(svg))
    assert shown == Counter(visible(name).strip() for name in HOSTILE)
    assert svg.count('class="edge"') == len(HOSTILE) - 1
    assert svg.count('class="cluster"') == (len(HOSTILE) + 1) // 2 * phases


@pytest.mark.row("S0-10")
def test_graphviz_makes_a_png() -> None:
    program = shutil.which("dot")
    if program is None:
        assert not os.environ.get("CI"), "Graphviz is missing: apt-get install graphviz"
        pytest.skip("Graphviz is not installed: apt-get install graphviz")
    done = subprocess.run(
        [program, "-Tpng"], input=to_dot(run_of(["a", "b"])).encode(), capture_output=True, timeout=60
    )

    assert done.returncode == 0
    assert done.stdout.startswith(b"\x89PNG")


@settings(max_examples=25, deadline=None)
@given(NAMES)
@example(["&;"])
def test_graphviz_finds_as_many_nodes_and_edges_as_there_are(names: list[str]) -> None:
    svg = graphviz(to_dot(run_of(names)))

    assert len(drawn_nodes(svg)) == len(names)
    assert svg.count('class="edge"') == len(names) - 1


@pytest.mark.row("S0-10")
def test_wires_are_solid_and_the_order_beside_them_dashed() -> None:
    wires = {"edges": [["a", "b"], {"source": "a", "target": "c"}, ["a", "nowhere"], ["a", "b"]]}
    steps = [("workflow_start", None, wires), *phase(0, node("a")), *phase(1, node("b"), node("c", error="no"))]

    dot = to_dot(replay(steps))

    assert [line.strip() for line in dot.splitlines() if "->" in line] == [
        '"a" -> "b";', '"a" -> "c";', '"b" -> "c" [style=dashed];',
    ]  # fmt: skip
    assert 'subgraph cluster_phase_1 {\n    label="Phase 2";' in dot
    assert '"c" [label="c\\n(0.50s)", color="#cf222e"' in dot
    assert '"a" [label="a\\n(0.50s)", color="#1a7f37"' in dot


# --------------------------------------------------------------------------- SVG, HTML, mermaid, trace


def texts(svg: str) -> list[str]:
    root = ElementTree.fromstring(svg)
    return ["".join(found.itertext()) for found in root.iter(f"{SVG}text")]


@pytest.mark.row("S0-10")
@settings(max_examples=80, deadline=None)
@given(NAMES, st.booleans(), st.booleans())
def test_the_picture_is_xml_and_shows_every_name(names: list[str], phases: bool, wires: bool) -> None:
    svg = to_svg(run_of(names, phases=phases, wires=wires))

    root = ElementTree.fromstring(svg)
    boxes = list(root.iter(f"{SVG}g"))
    titles = [group.findtext(f"{SVG}title") or "" for group in boxes]
    assert [title.rsplit(" (", 1)[0] for title in titles] == [visible(name) for name in names]
    assert {found.tag.removeprefix(SVG) for found in root.iter()} <= {
        "svg", "title", "defs", "marker", "path", "rect", "g", "text",
    }  # fmt: skip
    names_of_attributes = {name for found in root.iter() for name in found.attrib}
    assert not {name for name in names_of_attributes if name.startswith("on") or "href" in name or name == "style"}
    svg.encode()


def test_rows_of_the_picture_are_phases_or_follow_the_wires() -> None:
    def tops(replayer: ExecutionReplayer) -> dict[str, float]:
        groups = ElementTree.fromstring(to_svg(replayer)).iter(f"{SVG}g")
        return {
            (group.findtext(f"{SVG}title") or "")[0]: float(found.get("y") or 0)
            for group in groups
            if (found := group.find(f"{SVG}rect")) is not None
        }

    by_phase = tops(replay([*phase(0, node("a"), node("b")), *phase(1, node("c"))]))
    edges = ("workflow_start", None, {"edges": [["a", "b"], ["a", "c"], ["c", "a"]]})
    by_wire = tops(replay([edges, *node("a"), *node("b"), *node("c")]))
    alone = tops(replay([*node("a"), *node("b"), *node("c")]))

    assert by_phase["a"] == by_phase["b"] < by_phase["c"]
    assert by_wire["a"] < by_wire["b"] == by_wire["c"]
    assert alone["a"] < alone["b"] < alone["c"]


class _Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.attributes: set[str] = set()
        self.policy = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: Sequence[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes |= {name for name, _ in attributes}
        found = dict(attributes)
        if found.get("http-equiv") == "Content-Security-Policy":
            self.policy = found.get("content") or ""


PLAIN = Counter(_Page(to_html(run_of(["p", "q"]))).tags.keys())


@pytest.mark.row("S0-10")
@settings(max_examples=60, deadline=None)
@given(NAMES)
def test_the_page_has_no_script_and_needs_nothing_from_elsewhere(names: list[str]) -> None:
    html = to_html(run_of(names))
    page = _Page(html)

    assert set(page.tags) <= set(PLAIN)
    assert page.tags["rect"] == 1 + len(names) + (len(names) + 1) // 2
    assert not {name for name in page.attributes if name.startswith("on") or name in ("src", "href", "style")}
    styles = re.findall(r"<style>(.*?)</style>", html, re.DOTALL)
    allowed = base64.b64encode(hashlib.sha256(styles[0].encode()).digest()).decode()
    assert page.policy == f"default-src 'none'; style-src 'sha256-{allowed}'"
    assert len(styles) == 1


def test_the_page_tells_error_durations_and_critical_path() -> None:
    html = to_html(replay([*node("quick", seconds=0.1), *node("slow", error="no <b>button</b>", seconds=9.25)]))

    assert "slow: no &lt;b&gt;button&lt;/b&gt;" in html
    assert html.index("<td>slow</td>") < html.index("<td>quick</td>")
    assert "<li>slow (9.250 s)</li>" in html


@pytest.mark.row("S0-10")
@settings(max_examples=60, deadline=None)
@given(NAMES)
def test_a_flowchart_has_only_lines_of_its_own_grammar(names: list[str]) -> None:
    line = re.compile(
        r'flowchart TD|  subgraph phase\d+\["Phase \d+"\]|  end|  n\d+ (-->|-\.->) n\d+|  classDef \w+ stroke:#\w+,[\w:-]+'
        r'|\s+n\d+\["[^"<>&`%;]*(#\d+;[^"<>&`%;]*)*<br/>\(\d+\.\d\ds\)"\]:::\w+'
    )
    lines = to_mermaid(run_of(names)).rstrip("\n").split("\n")

    assert [text for text in lines if not line.fullmatch(text)] == []
    assert sum(":::" in text for text in lines) == len(names)


def test_a_trace_has_a_bar_for_every_end_of_a_node() -> None:
    trace = json.loads(to_trace(replay([*node("a", seconds=2.0), ("log", None, {}), *node("b", error="no")])))

    bars = [entry for entry in trace["traceEvents"] if entry["ph"] == "X"]
    assert [(bar["name"], bar["cat"], bar["dur"]) for bar in bars] == [
        ("a", "node_complete", 2_000_000.0), ("b", "node_error", 500_000.0),
    ]  # fmt: skip
    assert bars[0]["ts"] == pytest.approx((1.7e9 + 2 - 2.0) * 1e6)
    lanes = {entry["args"]["name"]: entry["tid"] for entry in trace["traceEvents"] if entry["ph"] == "M"}
    assert lanes == {"a": 1, "run": 2, "b": 3}


def test_a_very_wide_run_is_drawn_in_part_and_says_so() -> None:
    replayer = replay([step for number in range(MOST_DRAWN + 5) for step in node(f"n{number}")])

    for draw in (to_svg, to_html, to_mermaid):
        assert "… and 5 more nodes" in draw(replayer)
    assert to_dot(replayer).count("[label=") == MOST_DRAWN + 5


@pytest.mark.row("S0-10")
@pytest.mark.parametrize("form", sorted(FORMATS))
def test_a_drawing_is_written_as_it_is_returned(tmp_path: Path, form: str) -> None:
    replayer = run_of(HOSTILE)

    text = replayer.visualize(tmp_path / f"run.{form}", form)

    assert (tmp_path / f"run.{form}").read_bytes().decode() == text
    assert text == replayer.visualize(format=form)


def test_an_unknown_format_names_those_that_there_are() -> None:
    with pytest.raises(ValueError, match='no drawing format "gif"; there are dot, svg, html, mermaid'):
        run_of(["a"]).visualize(format="gif")


# --------------------------------------------------------------------------- any content


@settings(max_examples=80, deadline=None)
@given(STEPS, JSON, st.booleans())
def test_no_recorded_content_stops_a_question(steps: list[Step], anything: Any, sealed: bool) -> None:
    start: Step = ("workflow_start", None, {"edges": anything})
    replayer = replay([start, *steps], sealed=3 * sealed)

    for form in FORMATS:
        assert replayer.visualize(format=form)
    to_trace(replayer)
    to_summary(replayer)
    durations = replayer.durations()
    assert list(durations.values()) == sorted(durations.values(), reverse=True)
    assert {name for name, _ in replayer.critical_path()} <= set(durations)
    assert len(replayer.path()) == sum(kind == "node_start" and name is not None for kind, name, _ in steps)
    failed = [name for kind, name, _ in steps if kind == "node_error"]
    error = replayer.first_error()
    assert (error is not None) == bool(failed or any(kind == "workflow_error" for kind, _, _ in steps))
    assert not failed or (error is not None and error.node_id == failed[0])


# --------------------------------------------------------------------------- durations, paths, errors


@pytest.mark.row("S0-08")
@pytest.mark.parametrize("sealed", [0, 2])
def test_durations_are_sorted_and_count_every_run(sealed: int) -> None:
    steps = [
        *node("a", seconds=1.0),
        *node("b", seconds=3.0),
        *node("a", seconds=1.5, error="no"),
        *node("c", seconds=0),
    ]

    assert list(replay(steps, sealed=sealed).durations().items()) == [("b", 3.0), ("a", 2.5), ("c", 0.0)]


@pytest.mark.row("S0-08")
@pytest.mark.parametrize("sealed", [0, 2])
def test_the_critical_path_follows_wires_then_phases_then_time(sealed: int) -> None:
    nodes = [
        *phase(0, node("a", seconds=1.0), node("b", seconds=2.0)),
        *phase(1, node("c", seconds=5.0), node("d", seconds=4.0)),
    ]
    wires = ("workflow_start", None, {"edges": [["a", "c"], ["b", "d"], ["a", "d"], ["c", "a"], ["d", "gone"]]})

    assert replay([wires, *nodes], sealed=sealed).critical_path() == [("a", 1.0), ("c", 5.0)]
    assert replay(nodes, sealed=sealed).critical_path() == [("b", 2.0), ("c", 5.0)]


@pytest.mark.row("S0-08")
def test_without_wires_and_phases_the_critical_path_goes_back_in_time() -> None:
    """a and b run side by side, c after both; only the longer of the two decided."""
    steps: list[Step] = [
        ("node_start", "a", {}), ("node_start", "b", {}), ("node_complete", "a", {"duration_seconds": 2.0}),
        ("node_complete", "b", {"duration_seconds": 2.0}), *node("c", seconds=1.0),
    ]  # fmt: skip

    assert replay(steps).critical_path() == [("b", 2.0), ("c", 1.0)]
    assert replay([]).critical_path() == []


@pytest.mark.row("S0-07")
def test_the_path_has_every_start_in_order() -> None:
    recorder = ExecutionRecorder("shop")
    for name in ("a", "b", "a"):
        recorder.record_node_start(name)
        recorder.record_node_complete(name)

    assert ExecutionReplayer(None, recorder.finalize(), recorder.events, []).path() == ["a", "b", "a"]


@pytest.mark.row("S0-06")
@pytest.mark.parametrize("sealed", [0, 1, 3])
def test_the_first_error_and_the_state_before_it(sealed: int) -> None:
    steps = [*node("a", {"x": 1}), *node("b", error="no such page"), *node("c", error="too late"),
             ("workflow_error", None, {"error": "b failed"})]  # fmt: skip
    replayer = replay(steps, sealed=sealed)

    error = replayer.first_error()

    assert error is not None
    assert (error.node_id, error.data["error"]) == ("b", "no such page")
    assert replayer.get_state_at_position(error.seq - 2) == {"x": 1, "$nodes": {"a": {"x": 1}}}
    only_run = replay(steps[-1:], sealed=sealed).first_error()
    assert only_run is not None
    assert only_run.event_type.value == "workflow_error"
    assert replay(node("a"), sealed=sealed).first_error() is None


def test_questions_of_a_sealed_recording_decode_only_what_they_need(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = [*[("log", None, {"message": "x"})] * 40, *node("a", error="no"), *[("log", None, {})] * 40]
    replayer = replay(steps, sealed=10)
    decoded: list[bool] = []
    sealed: Any = replayer.events
    assert isinstance(sealed, SealedRecording)
    load = sealed._load

    def noted(number: int, **options: Any) -> Any:
        decoded.append(bool(options.get("lines")))
        return load(number, **options)

    monkeypatch.setattr(sealed, "_load", noted)

    assert replayer.first_error() is not None

    assert sum(decoded) == 1
