"""What a credential of each kind may hold."""

from __future__ import annotations

import json
import re

import pytest

from tests.environment import ROOT
from workflows import kinds

STATE = json.dumps(
    {
        "cookies": [{"name": "sid", "value": "cookie-value-1", "domain": "example.com", "path": "/"}],
        "origins": [{"origin": "https://example.com", "localStorage": [{"name": "jwt", "value": "stored-value-1"}]}],
    }
)
GOOD = {
    "password": {"username": "ada", "password": "correct horse"},
    "api_key": {"api_key": "sk-123456"},
    "basic": {"username": "ada", "password": "colons: are fine here"},
    "bearer": {"token": "abc.def.ghi"},
    "smtp": {
        "host": "smtp.example.com",
        "port": "465",
        "username": "ada",
        "password": "mail-password",
        "security": "ssl",
    },
    "twilio": {"account_sid": "AC0123456789", "auth_token": "0123456789abcdef", "from_number": "+491701234567"},
    "openai": {"api_key": "sk-123456", "base_url": "http://127.0.0.1:9000/v1", "organization": "org-1"},
    "proxy": {"server": "http://proxy.example.com:3128", "username": "ada", "password": "proxy-password"},
    "browser_state": {"state": STATE},
    "custom": {"client_id": "client-1", "key": "-----BEGIN KEY-----\nabcdefghijkl\n-----END KEY-----"},
}


def problems(kind: str, **fields: object) -> list[str]:
    return [str(problem) for problem in kinds.check(kind, fields)]


@pytest.mark.row("S2-08")
def test_every_kind_takes_what_it_is_for() -> None:
    assert GOOD.keys() == kinds.KINDS.keys()
    for kind, fields in GOOD.items():
        assert kinds.check(kind, fields) == [], kind


def test_every_kind_says_all_that_is_missing_and_refuses_fields_that_it_does_not_have() -> None:
    for kind in kinds.KINDS.values():
        if kind.free:
            continue
        found = kinds.check(kind.name, {"pasword": "x"})
        required = {field.name for field in kind.fields if field.required}
        assert {problem.field for problem in found if "is missing" in problem.message} == required
        assert [problem.field for problem in found if "is none of" in problem.message] == ["pasword"]
        assert kind.field(kind.main) is not None


@pytest.mark.parametrize(
    ("kind", "field", "value", "reason"),
    [
        ("smtp", "host", "https://smtp.example.com", "without"),
        ("smtp", "port", "0", "from 1 to 65535"),
        ("smtp", "port", "٣", "from 1 to 65535"),
        ("smtp", "port", "70000", "from 1 to 65535"),
        ("smtp", "security", "tls", "starttls, ssl, none"),
        ("smtp", "username", "ada\r\nRCPT TO:<eve>", "one line"),
        ("basic", "username", "a:b", '":"'),
        ("bearer", "token", "abc\r\nX-Evil: 1", "one line"),
        ("bearer", "token", "schlüssel", "header"),
        ("api_key", "api_key", " sk-1", "blanks"),
        ("twilio", "account_sid", "XX12", '"AC"'),
        ("twilio", "auth_token", "1234567", "too short"),
        ("twilio", "from_number", "0170", "+49"),
        ("twilio", "base_url", "javascript:alert(1)", "https://api.twilio.com"),
        ("openai", "base_url", "https://user:pw@example.com/v1", "fields of their own"),
        ("openai", "base_url", "https://example.com:99999/", "address"),
        ("proxy", "server", "proxy.example.com", "http://proxy.example.com:3128"),
        ("proxy", "server", "http://[::1", "http://proxy.example.com:3128"),
        ("browser_state", "state", "{", "not JSON"),
        ("browser_state", "state", "[" * 20_000, "levels"),
        ("browser_state", "state", "[]", "cookies"),
        ("browser_state", "state", '{"cookies": {}}', "lists"),
        ("browser_state", "state", '{"cookies": [{"name": "a"}]}', "cookie 1"),
        ("browser_state", "state", '{"cookies": [{"name": "a", "value": "b"}]}', "domain"),
        ("browser_state", "state", '{"origins": [{}]}', "origin 1"),
        ("browser_state", "state", '{"origins": [{"origin": "https://a", "localStorage": [1]}]}', "localStorage"),
        ("browser_state", "state", json.dumps({"cookies": [], "pad": "x" * 50_000}), "allowed"),
        ("browser_state", "state", json.dumps({"cookies": [], "pad": "é" * 5_000}, ensure_ascii=False) * 9, "KiB"),
        ("custom", "a b", "x", "letters"),
        ("password", "password", 5, "not a text"),
    ],
)  # fmt: skip
def test_a_value_that_cannot_work_is_refused_by_field_with_the_way_out(kind, field, value, reason) -> None:
    found = [problem for problem in kinds.check(kind, {**GOOD[kind], field: value}) if problem.field == field]

    assert len(found) == 1
    assert reason in found[0].message
    if kinds.is_secret(kind, field):
        assert str(value) not in str(found[0])


def test_unknown_kinds_and_free_fields_without_measure_are_refused() -> None:
    assert problems("psssword", password="x") == ['there is no kind "psssword"; there are ' + ", ".join(kinds.KINDS)]
    assert "at least one field" in problems("custom")[0]
    assert "40 are allowed" in problems("custom", **{f"f{n}": "x" for n in range(41)})[0]


def test_kinds_of_before_still_work() -> None:
    assert kinds.check("token", {"token": "abc"}) == []
    assert kinds.kind_of("token") is kinds.KINDS["bearer"]
    assert kinds.field_name("generic", {"password"}, "") == "password"


def test_a_reference_without_a_field_means_the_main_one() -> None:
    for kind, fields in GOOD.items():
        if kind != "custom":
            assert kinds.field_name(kind, fields, "") == kinds.KINDS[kind].main
    assert kinds.field_name("api_key", {"api_key"}, "password") == "api_key"
    assert kinds.field_name("api_key", {"api_key"}, "pasword") is None
    assert kinds.field_name("custom", {"a", "b"}, "password") is None
    assert kinds.value("smtp", GOOD["smtp"] | {"port": ""}, "port") == "587"
    assert kinds.value("basic", GOOD["basic"], "user_password") == "ada:colons: are fine here"


def test_secrets_are_known_by_value_and_the_rest_may_be_shown() -> None:
    assert kinds.shown("smtp", GOOD["smtp"]) == {
        "host": "smtp.example.com", "port": "465", "username": "ada", "security": "ssl"
    }  # fmt: skip
    assert kinds.shown("custom", GOOD["custom"]) == {}
    assert kinds.shown("password", {"username": "ada", "password": "x", "more": "y"}) == {"username": "ada"}
    assert kinds.secret_values("browser_state", GOOD["browser_state"]) == {STATE, "cookie-value-1", "stored-value-1"}
    assert kinds.secret_values("basic", GOOD["basic"]) == {"colons: are fine here", "ada:colons: are fine here"}
    assert "abcdefghijkl" in kinds.secret_values("custom", GOOD["custom"])
    assert "-----BEGIN KEY-----" not in kinds.secret_values("custom", GOOD["custom"])


def test_the_documentation_lists_every_kind_with_its_fields() -> None:
    text = (ROOT / "docs" / "credentials.md").read_text()
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*) \| .* \|$", text, re.MULTILINE))

    assert rows.keys() == kinds.KINDS.keys()
    for kind in kinds.KINDS.values():
        for field in kind.fields:
            shown = (
                f"{'**' * field.required}{'*' * field.secret}{field.name}{'*' * field.secret}{'**' * field.required}"
            )
            assert re.search(rf"(^|[ (]){re.escape(shown)}([ ,;:(]|$)", rows[kind.name]), f"{kind.name}: {shown}"


@pytest.mark.parametrize(
    ("sender", "right"),
    [
        ("+491701234567", True),
        ("12345", True),
        ("Shop 24", True),
        ("0170", False),
        ("Twelve chars", False),
        ("", False),
    ],
)
def test_text_messages_come_from_numbers_short_numbers_and_names(sender: str, right: bool) -> None:
    stored = {**GOOD["twilio"], "from_number": sender}

    assert kinds.is_sender(sender) is right
    assert (kinds.check("twilio", stored) == []) is (right or not sender)
