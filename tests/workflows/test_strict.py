"""JSON that cannot be kept is refused naming the place, by file and by HTTP, and nothing of it is stored."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.test import Client
from django.urls import reverse

from tests.conftest import graph, node
from workflows.errors import DefinitionError
from workflows.models import Workflow, WorkflowVersion
from workflows.strict import DEPTH_LIMIT, compact, read_json, unstorable

HOLE = '"HOLE"'


def with_value(text: str) -> str:
    """Return the JSON of a good workflow in which one value is ``text``."""
    data = {"name": "hostile", **graph([{**node("a", "delay", Duration=1), "extra": {"in here": ["HOLE"]}}])}
    return json.dumps(data).replace(HOLE, text)


HOSTILE = [
    pytest.param(with_value("[" * 100_000), "nested deeper than 100 at line 1 column", id="100,000 levels"),
    pytest.param(with_value("[" * 120 + "]" * 120), "nested deeper than 100", id="120 levels"),
    pytest.param(with_value("9" * 5000), '["in here"][0]: a number of 5,000 digits', id="a number of 5,000 digits"),
    pytest.param(with_value("NaN"), '["in here"][0]: NaN', id="NaN"),
    pytest.param(with_value("-Infinity"), '["in here"][0]: -Infinity', id="-Infinity"),
    pytest.param(with_value("1e999"), '["in here"][0]: must be a finite number', id="1e999"),
    pytest.param(with_value('{"k": 1, "k": 2}'), '["in here"][0].k: this key is there twice', id="a key twice"),
    pytest.param(with_value('"x\\ud800"'), '["in here"][0]: text must not contain half of a', id="half a surrogate pair"),
    pytest.param(with_value('"x\\u0000"'), '["in here"][0]: text must not contain a NUL', id="NUL"),
    pytest.param(
        json.dumps({"name": "hostile", **graph([node("a\u202eb", "delay", Duration=1)])}),
        "nodes[0].id: must not contain the direction control U+202E (character 2)",
        id="an id that turns around",
    ),
    pytest.param(
        json.dumps({"name": "hos\u2066tile", **graph([node("a", "delay", Duration=1)])}),
        "name: must not contain the direction control U+2066 (character 4)",
        id="a name that turns around",
    ),
    pytest.param(
        json.dumps({"name": "hostile", **graph([node("a", "delay", {"label": "\u202ax"}, Duration=1)])}),
        "nodes[0].data.label: must not contain the direction control U+202A (character 1)",
        id="a label that turns around",
    ),
]  # fmt: skip


def nothing_is_stored() -> bool:
    return Workflow.objects.count() == WorkflowVersion.objects.count() == 0


@pytest.mark.django_db
@pytest.mark.parametrize(("text", "place"), HOSTILE)
def test_fault_48_a_hostile_file_is_refused_with_the_place(alice: Any, tmp_path: Path, text: str, place: str) -> None:
    path = tmp_path / "hostile.json"
    path.write_text(text)

    with pytest.raises(CommandError) as caught:
        call_command("workflows", "import", str(path), stdout=io.StringIO(), stderr=io.StringIO())

    assert place in str(caught.value)
    assert "Traceback" not in str(caught.value)
    assert nothing_is_stored()


@pytest.mark.django_db
@pytest.mark.parametrize(("text", "place"), HOSTILE)
def test_fault_48_a_hostile_request_is_refused_with_the_place(
    alice: Any, client: Client, text: str, place: str
) -> None:
    client.force_login(alice)

    answer = client.post(
        "/api/v1/workflows", f'{{"name": "safe", "definition": {text}}}', content_type="application/json"
    )

    assert answer.status_code in (400, 422)
    place = place.replace(" at line 1 column", "")
    assert (
        place in answer.json()["detail"] or place.replace("nodes[0]", "definition.nodes[0]") in answer.json()["detail"]
    )
    assert nothing_is_stored()


@pytest.mark.django_db
def test_fault_48_a_string_of_50_mb_is_refused_by_both_doors(alice: Any, client: Client, tmp_path: Path) -> None:
    text = with_value(f'"{"x" * 50_000_000}"')
    path = tmp_path / "large.json"
    path.write_text(text)
    client.force_login(alice)

    with pytest.raises(
        CommandError,
        match=r"large.json is larger than 10 MB, the most that is taken; .* \(FLOWBUILDER_MAX_DEFINITION_BYTES\)",
    ):
        call_command("workflows", "import", str(path), stdout=io.StringIO(), stderr=io.StringIO())
    answer = client.post("/api/v1/workflows", f'{{"name": "x", "definition": {text}}}', content_type="application/json")

    assert answer.status_code == 413
    assert "MB, the most that is taken" in answer.json()["detail"]
    assert nothing_is_stored()


@pytest.mark.django_db
def test_a_file_may_be_as_large_as_a_request(alice: Any, settings: Any, tmp_path: Path) -> None:
    path = tmp_path / "large.json"
    path.write_text(json.dumps(graph([node("a", "delay", Duration=1)])) + " " * 11 * 1024**2)
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 12 * 1024**2

    call_command("workflows", "import", str(path), "--name", "shop", stdout=io.StringIO(), stderr=io.StringIO())

    assert Workflow.objects.get().name == "shop"
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 2 * 1024**2
    with pytest.raises(CommandError, match=r"large.json is larger than 2 MB"):
        call_command("workflows", "import", str(path), stdout=io.StringIO(), stderr=io.StringIO())


@pytest.mark.django_db
def test_fault_48_direction_controls_in_contents_are_kept(alice: Any, tmp_path: Path) -> None:
    data = {
        "name": "hebrew",
        **graph([node("a", "json_transform", Input_JSON="\u2067\u05d0\u2069", Transform_Rules={})]),
    }
    path = tmp_path / "contents.json"
    path.write_text(json.dumps(data))

    call_command("workflows", "import", str(path), stdout=io.StringIO(), stderr=io.StringIO())

    stored = WorkflowVersion.objects.get().definition
    assert stored["nodes"][0]["data"]["inputs"]["Input JSON"] == "\u2067\u05d0\u2069"


@pytest.mark.django_db
@pytest.mark.parametrize("name", [5, ["x"], {"a": 1}, True])
def test_a_name_that_is_no_text_is_told(alice: Any, tmp_path: Path, name: Any) -> None:
    path = tmp_path / "name.json"
    path.write_text(json.dumps({"name": name, **graph([node("a", "delay", Duration=1)])}))

    with pytest.raises(CommandError, match="name: must be a text"):
        call_command("workflows", "import", str(path), stdout=io.StringIO(), stderr=io.StringIO())

    assert nothing_is_stored()


@pytest.mark.django_db
def test_a_name_that_turns_around_is_refused_by_every_door(alice: Any, client: Client, tmp_path: Path) -> None:
    path = tmp_path / "good.json"
    path.write_text(json.dumps({"name": "good", **graph([node("a", "delay", Duration=1)])}))
    client.force_login(alice)

    with pytest.raises(CommandError, match=r"U\+202E"):
        call_command("workflows", "import", str(path), "--name", "x\u202e", stdout=io.StringIO(), stderr=io.StringIO())
    api = client.post("/api/v1/workflows", {"name": "x\u202e"}, content_type="application/json")
    page = client.post(reverse("admin:workflows_workflow_add"), {"name": "x\u202e"})

    assert (api.status_code, page.status_code) == (422, 200)
    assert "U+202E (character 2)" in api.json()["detail"]
    assert "U+202E" in page.content.decode()
    assert nothing_is_stored()


# ---------------------------------------------------------------------- reading


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "there is nothing in it"),
        ("{", "line 1 column 2"),
        (b"\xff", "not UTF-8 text (byte 0)"),
        ('{"a": {"b c": 1, "b c": 2}, "d": [NaN]}', 'a["b c"]: this key is there twice; keep one; d[0]: NaN'),
        ('{"a": NaN, "a": 1}', "a: this key is there twice"),
        ('{"s": "[[[", "a": ' + "[" * 100_000, "column 118"),
    ],
)
def test_json_that_cannot_be_read_says_why(text: str | bytes, message: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        read_json(text)

    assert message in str(caught.value)


def test_only_so_many_places_are_named() -> None:
    with pytest.raises(DefinitionError, match=r"; and 15 more$"):
        read_json(json.dumps([float("nan")] * 20))


def test_good_json_is_read_as_python_reads_it() -> None:
    text = '\ufeff{"a": [1, -2.5, 1e3, "\\ud83d\\ude00", true, null, {"a": {}}], "b": ' + "9" * 4000 + "}"

    assert read_json(text.encode()) == json.loads(text.removeprefix("\ufeff"))


@pytest.mark.parametrize("value", [{"a": ["\\u0000"]}, "\\u0000", 5, None, [[]], {"x": "\U0001f600"}])
def test_what_only_looks_like_a_nul_is_kept(value: Any) -> None:
    assert list(unstorable(value)) == []
    assert compact("\\u0000") is None  # the quick look is not sure, and asks for the slow one


def test_values_may_be_nested_up_to_the_limit() -> None:
    value: Any = "x"
    for _ in range(DEPTH_LIMIT):
        value = [value]

    assert compact(value) is not None
    assert list(unstorable(value)) == []
    assert compact([value]) is None
    assert len(list(unstorable([value]))) == 1
