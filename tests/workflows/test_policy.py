"""What settings may say about the starts of a workflow: everything wrong is named, nothing wrong stops a start."""

from __future__ import annotations

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import graph, node
from workflows.definition import Definition
from workflows.errors import ActivationRefused
from workflows.policy import KEY_CHARACTERS, NO_POLICY, StartPolicy, problems, start_policy
from workflows.transfer import import_definition
from workflows.validation import validate

pytestmark = pytest.mark.django_db

GOOD = {
    "concurrency": 2,
    "overlap": "buffer_one",
    "concurrency_key": "{{ input.customer }}",
    "key_concurrency": 3,
    "rate": {"count": 10, "per_s": 0.5},
    "priority": "high",
    "recording": "failed, sample:0.1, long:60",
    "retention": {"max_age_days": 7, "max_count": None, "tags_to_keep": ["a"], "keep_failed": False},
}
BAD = [
    ("concurrency", 0),
    ("concurrency", True),
    ("concurrency", "2"),
    ("concurrency", 2.0),
    ("overlap", "drop"),
    ("overlap", ["skip"]),
    ("key_concurrency", -1),
    ("concurrency_key", 7),
    ("concurrency_key", " "),
    ("concurrency_key", "{{ input."),
    ("concurrency_key", "{{ nodes.a.b }}"),
    ("rate", 5),
    ("rate", {"count": 5}),
    ("rate", {"count": 0, "per_s": 1}),
    ("rate", {"count": 1, "per_s": 0}),
    ("rate", {"count": 1, "per_s": float("inf")}),
    ("rate", {"count": 1, "per_s": 1, "burst": 2}),
    ("priority", "urgent"),
    ("priority", 5),
    ("recording", "sometimes"),
    ("recording", 0.5),
    ("recording", "sample"),
    ("recording", "all,failed"),
    ("recording", "long:-1"),
    ("record_inputs", "no"),
    ("record_outputs", 0),
    ("retention", 7),
    ("retention", {"max_age_days": -1}),
    ("retention", {"max_age": 1}),
    ("retention", {"tags_to_keep": "a"}),
    ("retention", {"keep_failed": 1}),
]


def definition(**settings):
    return {**graph([node("one", "delay", Duration=1)]), "settings": settings}


def test_good_settings_are_read_and_have_no_problem():
    assert list(problems(GOOD)) == []
    assert start_policy(GOOD) == StartPolicy(2, "buffer_one", "{{ input.customer }}", 3, (10, 0.5), 0)


@pytest.mark.parametrize(("key", "value"), BAD)
def test_a_bad_setting_is_named_and_left_out(key, value):
    settings = {"concurrency_key": "{{ input.x }}", key: value}

    assert [name for name, _ in problems(settings)] == [key]
    without = {name: good for name, good in settings.items() if name != key}
    assert start_policy(settings) == start_policy(without)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@hypothesis.settings(deadline=None)
@given(st.dictionaries(st.sampled_from([*GOOD]), ANYTHING))
def test_no_settings_make_a_start_stumble(settings):
    policy = start_policy(settings)
    assert policy.priority in (0, 5, 9)
    assert len(policy.key_of({"customer": settings})) <= KEY_CHARACTERS
    list(problems(settings))


def test_an_overlap_without_a_limit_means_one_at_a_time():
    assert start_policy({"overlap": "skip"}).concurrency == 1
    assert start_policy({"overlap": "skip", "concurrency_key": "{{ input.a }}"}).concurrency is None
    assert start_policy({"concurrency_key": "{{ input.a }}"}).key_concurrency == 1
    assert start_policy({"overlap": "allow_all", "concurrency": 1}).limited is False
    assert start_policy({"deadline_s": 5}) is NO_POLICY
    assert start_policy("nonsense") is NO_POLICY


def test_a_limit_per_key_needs_a_key():
    assert next(iter(problems({"key_concurrency": 2})))[0] == "key_concurrency"
    assert start_policy({"key_concurrency": 2}).limited is False


def test_the_key_comes_from_the_input():
    policy = start_policy({"concurrency_key": "{{ input.customer.id }}"})
    assert policy.key_of({"customer": {"id": 7}}) == "7"
    assert policy.key_of({"customer": {}}) == ""
    assert policy.key_of(None) == ""
    long, other = policy.key_of({"customer": {"id": "x" * 300}}), policy.key_of({"customer": {"id": "x" * 299}})
    assert len(long) == KEY_CHARACTERS
    assert long != other


@pytest.mark.row("S0-33")
def test_a_node_that_does_not_say_plainly_what_to_record_is_a_finding():
    data = graph([node("a", "delay", {"record_inputs": "no", "record_outputs": False}, Duration=1)])
    parsed = Definition.from_json(data)
    [finding] = validate(parsed)

    assert (finding.code, finding.severity, finding.node_id, finding.field) == (
        "BAD_SETTING", "error", "a", "record_inputs",
    )  # fmt: skip
    assert "true or false" in finding.message
    assert "keeps the values out of recordings" in finding.hint
    assert (parsed.nodes[0].policy.record_inputs, parsed.nodes[0].policy.record_outputs) == (None, False)


def test_bad_settings_of_a_definition_are_findings():
    found = validate(Definition.from_json(definition(concurrency=0, priority="urgent")))
    assert [(f.code, f.severity, f.field) for f in found] == [
        ("BAD_SETTING", "error", "settings.concurrency"),
        ("BAD_SETTING", "error", "settings.priority"),
    ]
    whole = {**definition(), "settings": [1]}
    assert [f.field for f in validate(Definition.from_json(whole))] == ["settings"]


def test_importing_a_definition_gives_the_workflow_its_settings(alice):
    data = {**definition(concurrency=2), "name": "limited"}
    workflow, _, _ = import_definition(alice, data)
    assert workflow.settings == {"concurrency": 2}

    import_definition(alice, {**data, "settings": {"concurrency": 3}})
    workflow.refresh_from_db()
    assert workflow.settings == {"concurrency": 3}

    del data["settings"]
    import_definition(alice, data)
    workflow.refresh_from_db()
    assert workflow.settings == {"concurrency": 3}

    with pytest.raises(ActivationRefused, match="concurrency must be a whole number"):
        import_definition(alice, {**data, "settings": {"concurrency": "many"}})


def test_the_admin_refuses_settings_that_cannot_be_read(client, alice, make_workflow):
    workflow = make_workflow(definition(), name="w")
    client.force_login(alice)
    address = f"/admin/workflows/workflow/{workflow.pk}/change/"
    form = {"name": "w", "description": "", "schedule-TOTAL_FORMS": 0, "schedule-INITIAL_FORMS": 0}

    answer = client.post(address, {**form, "settings": '{"concurrency": 0}'})
    assert "concurrency must be a whole number from 1 to" in answer.content.decode()

    assert client.post(address, {**form, "settings": '{"concurrency": 4}'}).status_code == 302
    workflow.refresh_from_db()
    assert workflow.settings == {"concurrency": 4}
