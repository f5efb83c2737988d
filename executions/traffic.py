"""What a page loaded, as a HAR that may be kept: without logins, and not larger than people read."""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from recordings.redaction import MASK, Redactor

MOST_BYTES: Final = 2 * 1024 * 1024
READ_BYTES: Final = 32 * 1024 * 1024
"""A larger file of the browser is not read at all."""
CONTENT_TYPE: Final = "application/har+json"

_SECRET: Final = re.compile(
    r"pass|pwd|secret|token|api.?key|auth|cookie|credential|session|signature|otp|cvc|cvv|^(sig|sid|pin|key|code)$",
    re.I,
)
"""Names of headers and parameters whose values are not kept."""
_OURS: Final = ("serverIPAddress", "_serverPort", "connection", "_securityDetails", "pageref")
"""What tells of the way through our own proxy, or of pages that one part of the traffic does not have."""


def cleaned(raw: bytes, typed: Collection[str] = ()) -> bytes:
    """Return the HAR ``raw`` without values that log in; empty if it holds no request.

    These are headers, cookies and parameters whose names say so, and every value in ``typed``. Of bodies, those of forms
    among them, only size and type are kept. Above 2 MiB the rest of the requests is left out, and the comment says how many.
    """
    log = json.loads(raw)["log"]
    entries, size, left = [], 0, 0
    for entry in log.get("entries", []):
        one = _entry(entry)
        length = len(json.dumps(one))
        if left or size + length > MOST_BYTES:
            left += 1
            continue
        entries.append(one)
        size += length
    if not entries and not left:
        return b""
    kept: dict[str, Any] = {key: log[key] for key in ("version", "creator", "browser") if key in log}
    if left:
        kept["comment"] = f"{left} more requests are left out; this file holds at most {MOST_BYTES // 1024 // 1024} MiB"
    redacted = Redactor(typed).redact({**kept, "entries": entries})
    return json.dumps({"log": redacted}, ensure_ascii=False, indent=1).encode("utf-8", "replace")


def _entry(entry: dict[str, Any]) -> dict[str, Any]:
    request, response = dict(entry["request"]), dict(entry["response"])
    for side in (request, response):
        side["headers"] = [_pair(header) for header in side.get("headers", [])]
        side["cookies"] = [{**cookie, "value": MASK} for cookie in side.get("cookies", [])]
    request["url"] = _address(str(request.get("url", "")))
    request["queryString"] = [_pair(pair) for pair in request.get("queryString", [])]
    response["redirectURL"] = _address(str(response.get("redirectURL", "")))
    if "postData" in request:
        request["postData"] = {"mimeType": str(request["postData"].get("mimeType", "")), "params": [], "text": ""}
    content = response.get("content", {})
    response["content"] = {key: content[key] for key in ("size", "mimeType", "compression") if key in content}
    rest = {key: value for key, value in entry.items() if key not in _OURS}
    return {**rest, "request": request, "response": response}


def _pair(pair: dict[str, Any]) -> dict[str, Any]:
    name, value = str(pair.get("name", "")), str(pair.get("value", ""))
    if _SECRET.search(name):
        return {**pair, "value": MASK}
    return {**pair, "value": _address(value)} if value.startswith(("http://", "https://", "/")) else pair


def _address(url: str) -> str:
    """Return an address without a user, without a fragment, and without the values of parameters that log in."""
    try:
        parts = urlsplit(url)
        query = parse_qsl(parts.query, keep_blank_values=True)
    except ValueError:
        return MASK
    text = parts.query
    if any(_SECRET.search(name) for name, _ in query):
        text = urlencode([(name, MASK if _SECRET.search(name) else value) for name, value in query], safe="*")
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, text, ""))
