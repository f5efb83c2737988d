"""Keep secrets out of everything that is stored: find them by their value and replace them."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import quote, quote_plus

MASK = "***"
SECRET = "$secret"  # noqa: S105 - the name of a JSON key
SHORTEST_INSIDE = 4
"""A shorter secret is replaced only where it is a whole value: "1" is part of too many texts."""
_SHORTEST_FRAGMENT = 6
_NESTED = 5
"""How often JSON may hold JSON as a text; of a secret of ``_LONG`` characters, which doubles each time, twice."""
_LONG = 1_000
_PRINTABLE = "".join(map(chr, range(33, 127)))
_KEPT_BY_BROWSERS = tuple(
    "".join(sign for sign in _PRINTABLE if sign not in encoded)
    for encoded in ('"<>`', '"#<>', "\"#<>'", '"#<>?^`{}', '"#<>?^`{}/:;=@[\\]|')
)
"""What browsers leave alone in the fragment, the query (of two kinds), the path and the user of an address."""
_IN_SCRIPTS = {ord(sign): f"\\u{ord(sign):04X}" for sign in "<>&'"}
"""How JSON inside of a page is written."""


class Redactor:
    """Replaces secret values, also where they are part of a longer text, encoded or escaped.

    Known forms: as it is, JSON-escaped (up to five times, also for a script in a page), as Python shows it,
    percent-encoded (path, query and form style, once and twice), HTML-escaped, hexadecimal, and base64 in both alphabets at every alignment (also of JSON and addresses), so that the password in
    ``Basic base64(user:password)`` is found. A value that is exactly a secret of a credential becomes
    ``{"$secret": "<credential id>"}``; anywhere else it becomes ``***``. Not found: a secret that was
    hashed, encrypted, compressed, or split over several values.

    ``values`` are secrets, or a mapping of secret to credential id. ``count`` is how many were replaced.
    """

    def __init__(self, values: Mapping[str, str] | Iterable[str] = ()) -> None:
        self._ids: dict[str, str] = {}
        self._known: set[str] = set()
        self._ordered: list[str] = []
        """What is known, longest first; made again when there is more."""
        self.count = 0
        pairs = values.items() if isinstance(values, Mapping) else ((value, "") for value in values)
        for value, identifier in pairs:
            self.add(value, identifier)

    def __bool__(self) -> bool:
        """Return whether there is anything to look for."""
        return bool(self._ids)

    def add(self, value: str, identifier: str = "") -> None:
        """Look for one more secret from now on."""
        if not value or value in self._ids:
            return
        self._ids[value] = identifier
        if len(value) >= SHORTEST_INSIDE:
            self._known |= forms(value)

    @property
    def _forms(self) -> list[str]:
        if len(self._ordered) != len(self._known):
            self._ordered = sorted(self._known, key=lambda form: (-len(form), form))
        return self._ordered

    def redact(self, value: Any) -> Any:
        """Return a JSON value without secrets; the same object when there were none."""
        if not self._ids:
            return value
        return self._redact(value)

    def redact_text(self, text: str) -> str:
        """Return a text without secrets."""
        for form in self._forms:
            if form in text:
                self.count += text.count(form)
                text = text.replace(form, MASK)
        return MASK if text in self._ids else text

    def redact_bytes(self, content: bytes) -> bytes:
        """Return the content of a text file without secrets; in a compressed format none can be found."""
        for form in (text.encode("utf-8", "surrogatepass") for text in self._forms):
            if form in content:
                self.count += content.count(form)
                content = content.replace(form, MASK.encode())
        return content

    def _redact(self, value: Any) -> Any:
        if isinstance(value, str):
            if value in self._ids:
                self.count += 1
                identifier = self._ids[value]
                return {SECRET: identifier} if identifier else MASK
            return self.redact_text(value)
        if isinstance(value, dict):
            changed = {self.redact_text(str(key)): self._redact(item) for key, item in value.items()}
            same = all(item is value.get(key, changed) for key, item in changed.items()) and len(changed) == len(value)
            return value if same else changed
        if isinstance(value, list | tuple):
            items = [self._redact(item) for item in value]
            return value if all(a is b for a, b in zip(items, value, strict=True)) else items
        if isinstance(value, bool) or value is None:
            return value
        if isinstance(value, int | float) and str(value) in self._ids:
            self.count += 1
            return MASK
        return value


@lru_cache(maxsize=1024)
def forms(value: str) -> frozenset[str]:
    """Return everything that a secret may look like inside of a text; itself only, if it is very short."""
    escaped, nested = set(), {value}
    for _ in range(_NESTED if len(value) < _LONG else 2):
        nested = {json.dumps(form, ensure_ascii=plain)[1:-1] for form in nested for plain in (True, False)}
        escaped |= nested
    escaped |= {form.replace("/", "\\/") for form in escaped}
    escaped |= {form.translate(_IN_SCRIPTS) for form in escaped}
    raw = value.encode("utf-8", "surrogatepass")
    in_python = set(_shown_by_python(value, raw))
    in_python |= {
        again for form in in_python for again in _shown_by_python(form, form.encode("utf-8", "surrogatepass"))
    }
    percent = {quote(raw, safe=safe) for safe in ("", "/", "!~*'()", "!$&'()*+,;=:@/", *_KEPT_BY_BROWSERS)}
    percent.add(quote_plus(raw))
    percent |= {_lower_escapes(form) for form in percent}
    percent |= {quote(form, safe="") for form in percent}  # an address inside of an address
    pages = {html.escape(value), html.escape(value, quote=False), html.escape(value).replace("&#x27;", "&#39;")}
    pages |= {page.replace("&quot;", "&#34;") for page in pages}
    found = {value, *escaped, *in_python, *percent, *pages}
    for inside in {
        raw,
        quote(raw, safe="").encode(),
        quote(raw, safe="!~*'()").encode(),
        json.dumps(value)[1:-1].encode(),
    }:
        found |= _base64_forms(inside)
    if len(raw) >= SHORTEST_INSIDE:
        found |= {raw.hex(), raw.hex().upper()}
    return frozenset(found)


def _shown_by_python(value: str, raw: bytes) -> Iterator[str]:
    """Yield what ``repr`` makes of a text that ``value`` is a part of; the rest of it decides about its quotes."""
    quotes = "'\""
    for shown in (repr(value + quotes)[1:-4], ascii(value + quotes)[1:-4], repr(raw + quotes.encode())[2:-4]):
        yield shown
        yield shown.replace("\\'", "'")


def _lower_escapes(text: str) -> str:
    parts = text.split("%")
    return "%".join([parts[0], *(part[:2].lower() + part[2:] for part in parts[1:])])


def _base64_forms(raw: bytes) -> set[str]:
    """Return the characters that ``raw`` always makes in base64, whatever stands before and after it."""
    forms = set()
    for before in range(3):
        encoded = base64.b64encode(b"\0" * before + raw).decode().rstrip("=")
        start = -(-before * 8 // 6)
        whole = (before + len(raw)) * 8 // 6
        fragment = encoded[start:whole]
        if len(fragment) >= _SHORTEST_FRAGMENT:
            forms |= {fragment, fragment.replace("+", "-").replace("/", "_")}
    return forms
