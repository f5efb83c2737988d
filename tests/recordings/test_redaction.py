"""Secrets are found by their value, in whatever form they travel."""

from __future__ import annotations

import base64
import html
import json
from urllib.parse import quote, quote_plus, urlencode

import pytest
from django.utils.html import escape, json_script
from hypothesis import given
from hypothesis import strategies as st

from recordings import Redactor
from recordings.events import encode_json

SECRET = 'p@ss "wörd"/+&<x>\\1'


def test_a_whole_value_names_the_credential() -> None:
    redactor = Redactor({SECRET: "cred-7"})

    assert redactor.redact({"password": SECRET, "list": [SECRET, 1]}) == {
        "password": {"$secret": "cred-7"}, "list": [{"$secret": "cred-7"}, 1],
    }  # fmt: skip
    assert Redactor([SECRET]).redact(SECRET) == "***"
    assert redactor.count == 2


@pytest.mark.parametrize(
    "text",
    [
        f"login with {SECRET} failed",
        json.dumps({"password": SECRET}),
        json.dumps({"password": SECRET}, ensure_ascii=False),
        json.dumps({"body": json.dumps({"password": SECRET})}),
        encode_json({"password": SECRET}).decode(),
        json.dumps(json.dumps(json.dumps(json.dumps([SECRET], ensure_ascii=False)), ensure_ascii=False)),
        f"https://example.com/?p={quote(SECRET)}&x=1",
        f"https://example.com/{quote(SECRET, safe='')}/x",
        f"https://example.com/?p={quote(SECRET, safe='').lower()}",
        f"https://example.com/?p={quote_plus(SECRET)}",
        "https://example.com/#p@ss%20%22w%C3%B6rd%22/+&%3Cx%3E\\1",
        "https://p%40ss%20%22w%C3%B6rd%22%2F+&%3Cx%3E%5C1@example.com/",
        urlencode({"user": "a", "password": SECRET}),
        f'<input value="{html.escape(SECRET)}">',
        f"<p>{html.escape(SECRET, quote=False)}</p>",
        SECRET.encode().hex(),
        SECRET.encode().hex().upper(),
        f"https://example.com/?next={quote(f'/login?p={quote(SECRET)}', safe='')}",
        f"KeyError: {SECRET + chr(10)!r}",
        f"ValueError: {SECRET.encode()!r}",
        f"ChordError({ValueError(KeyError(SECRET))!r})",
        repr(f"ChordError({ValueError(repr(SECRET))})"),
        str(json_script({"password": SECRET}, "data")),
        str(escape(SECRET)).replace("&quot;", "&#34;"),
        base64.b64encode(json.dumps({"claims": SECRET}).encode()).decode(),
        base64.b64encode(f"user:{quote(SECRET, safe='')}".encode()).decode(),
        *(base64.b64encode(f"{user}:{SECRET}".encode()).decode() for user in ("a", "ab", "abc", "abcd")),
        *(base64.urlsafe_b64encode(f"{user}{SECRET}tail".encode()).decode() for user in ("", "a", "ab")),
    ],
)
def test_known_forms_are_found(text: str) -> None:
    cleaned = Redactor([SECRET]).redact({"text": text})["text"]

    assert "***" in cleaned
    leftovers = [
        SECRET,
        quote(SECRET, safe=""),
        "wörd",
        "w%C3%B6rd",
        "w\\xc3",
        "w%25C3",
        "u00f6rd",
        SECRET.encode().hex(),
    ]
    leftovers += [SECRET.encode().hex().upper(), base64.b64encode(SECRET.encode()).decode()[:12]]
    assert not [form for form in leftovers if form in cleaned]


@given(
    st.text(min_size=6, max_size=40).filter(lambda text: text.strip() == text and len(text.encode()) < 120),
    st.binary(max_size=5),
    st.binary(max_size=5),
)
def test_base64_hides_nothing_at_any_alignment(secret: str, before: bytes, after: bytes) -> None:
    encoded = base64.b64encode(before + secret.encode() + after).decode()

    assert Redactor([secret]).redact(f"Authorization: Basic {encoded}") != f"Authorization: Basic {encoded}"


def test_keys_numbers_and_bytes() -> None:
    redactor = Redactor(["123456", "sesame-open"])

    assert redactor.redact({"x-sesame-open": 123456, "ok": 1234567, "flag": True}) == {
        "x-***": "***", "ok": 1234567, "flag": True,
    }  # fmt: skip
    assert redactor.redact_bytes(b"<p>sesame-open</p>") == b"<p>***</p>"


def test_a_short_secret_is_replaced_only_as_a_whole() -> None:
    redactor = Redactor(["1"])

    assert redactor.redact({"a": "1", "b": "10 of 11"}) == {"a": "***", "b": "10 of 11"}


def test_longer_secrets_go_first() -> None:
    assert Redactor(["abcd", "abcdefgh"]).redact("x abcdefgh y abcd") == "x *** y ***"


def test_without_secrets_the_value_itself_comes_back() -> None:
    value = {"a": ["text", 1, None]}

    assert Redactor().redact(value) is value
    assert Redactor(["something"]).redact(value) is value
    assert not Redactor()
    assert Redactor([""]).redact("anything") == "anything"
