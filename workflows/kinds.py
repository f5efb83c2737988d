"""Kinds of credentials: which fields each has, which of them are secret, and what a field may hold.

Every value is a text, as forms and command lines give it. A kind is data: a form, the API and the command line are
made from ``KINDS``, so a new kind is one entry here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import urlsplit

FieldType = Literal["text", "password", "number", "choice", "url", "json"]

STATE_LIMIT_BYTES = 48 * 1024
"""How large the storage state of a browser may be; with the rest it still fits a credential."""
STATE_DEPTH = 40
CUSTOM_FIELDS = 40
WHOLE = "*"
"""Asks for all fields of a credential instead of one."""
SHORTEST_PART = 8
"""A part of a secret (a line of a key, the value of a cookie) is looked for in texts only when it is this long."""
PHONE = re.compile(r"\+[1-9][0-9]{6,14}")
ACCOUNT_SID = re.compile(r"AC[A-Za-z0-9]{2,62}")
SHORTEST_TOKEN = 10
_SENDER = re.compile(r"[1-9][0-9]{2,7}|(?=.*[A-Za-z])[A-Za-z0-9 ]{1,11}")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with a field, and what would be right. Never shows the value of a secret field."""

    field: str
    message: str

    def __str__(self) -> str:
        return f'field "{self.field}" {self.message}' if self.field else self.message


@dataclass(frozen=True, slots=True)
class KindField:
    """A field of a kind. ``check`` returns what is wrong with a value that is there, or an empty text."""

    name: str
    label: str
    secret: bool = False
    required: bool = False
    help: str = ""
    type: FieldType = "text"
    max: int = 1_000
    options: tuple[str, ...] = ()
    default: str = ""
    """What counts where nothing was stored."""
    check: Callable[[str], str] | None = None

    def problem(self, value: str) -> str:
        """Return what is wrong with ``value``, or an empty text."""
        if len(value) > self.max:
            return f"has {len(value):,} characters; {self.max:,} are allowed"
        if self.type != "json" and _CONTROL.search(value):
            return "has a line break or another character that cannot be typed; it is one line"
        if self.options and value not in self.options:
            return f"must be one of {', '.join(self.options)}"
        return self.check(value) if self.check else ""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of credential. ``main`` is the field that a reference means which names none."""

    name: str
    label: str
    fields: tuple[KindField, ...]
    main: str = "password"
    help: str = ""
    derived: Mapping[str, str] = field(default_factory=dict)
    """Fields made of others when a node asks for them: name to a format of them."""
    free: bool = False
    """It takes fields of any name, all of them secret."""

    def field(self, name: str) -> KindField | None:
        """Return the field called ``name``."""
        return next((one for one in self.fields if one.name == name), None)


# ---------------------------------------------------------------------- what a value must look like


def _host(value: str) -> str:
    if "://" in value or "/" in value:
        return 'is a host name such as "smtp.example.com", without "https://" or a path'
    return 'is a host name such as "smtp.example.com"' if re.search(r"\s", value) else ""


def _port(value: str) -> str:
    right = value.isascii() and value.isdigit() and 1 <= int(value[:6]) <= 65_535
    return "" if right else "is a port, a whole number from 1 to 65535"


def _user(value: str) -> str:
    return 'must not hold a ":", because Basic ends the user name there' if ":" in value else ""


def _address(schemes: tuple[str, ...], example: str) -> Callable[[str], str]:
    def check(value: str) -> str:
        try:
            parts = urlsplit(value)
            right = parts.scheme in schemes and bool(parts.hostname) and (parts.port is None or parts.port > 0)
        except ValueError:
            right = False
        if not right or re.search(r"\s", value):
            return f'is an address such as "{example}"'
        if parts.username or parts.password:
            return "must not hold a user or password; they have fields of their own"
        return ""

    return check


def _account_sid(value: str) -> str:
    return "" if ACCOUNT_SID.fullmatch(value) else 'begins with "AC"; it is on the first page of Twilio'


def _auth_token(value: str) -> str:
    return "" if len(value) >= SHORTEST_TOKEN else "is too short for a token of Twilio"


def is_sender(value: str) -> bool:
    """Return whether text messages can come from ``value``: a phone number, a short number, or a name with a letter."""
    return bool(PHONE.fullmatch(value) or _SENDER.fullmatch(value))


def _sender(value: str) -> str:
    right = is_sender(value)
    return "" if right else 'is a number such as "+491701234567", or a sender name of at most 11 letters and digits'


def _header_value(value: str) -> str:
    if not value.isascii():
        return "has characters that do not fit into a header of HTTP"
    return "has blanks around it; leave them away" if value != value.strip() else ""


def _storage_state(value: str) -> str:
    try:
        state = load_state(value)
    except ValueError as error:
        return str(error)
    for place, cookie in enumerate(state["cookies"], 1):
        if not isinstance(cookie, dict) or not all(isinstance(cookie.get(key), str) for key in ("name", "value")):
            return f"is no storage state: cookie {place} has no name and value that are texts"
        if not cookie.get("url") and not cookie.get("domain"):
            return f'is no storage state: cookie {place} ("{str(cookie["name"])[:40]}") has neither domain nor url'
    for place, origin in enumerate(state["origins"], 1):
        if not isinstance(origin, dict) or not isinstance(origin.get("origin"), str):
            return f"is no storage state: origin {place} has no address"
        items = origin.get("localStorage", [])
        if not isinstance(items, list) or not all(
            isinstance(item, dict) and isinstance(item.get("name"), str) and isinstance(item.get("value"), str)
            for item in items
        ):
            return f"is no storage state: localStorage of origin {place} is no list of names and values"
    return ""


def load_state(text: str) -> dict[str, Any]:
    """Return the storage state of a browser in ``text``, with both of its lists.

    Raises:
        ValueError: too large, no JSON, or another shape; says what would be right.
    """
    if len(text.encode("utf-8", "surrogatepass")) > STATE_LIMIT_BYTES:
        raise ValueError(f"is larger than {STATE_LIMIT_BYTES // 1024} KiB; keep only the cookies that log in")
    try:
        state = json.loads(text)
    except RecursionError:
        raise ValueError(f"is nested deeper than {STATE_DEPTH} levels") from None
    except ValueError:
        raise ValueError("is not JSON; paste what context.storage_state() of Playwright gives") from None
    if not isinstance(state, dict) or not ({"cookies", "origins"} & state.keys()):
        raise ValueError('is no storage state; it is a JSON object with "cookies" and "origins"')
    state = {"cookies": [], "origins": [], **state}
    if not isinstance(state["cookies"], list) or not isinstance(state["origins"], list):
        raise ValueError('is no storage state; "cookies" and "origins" are lists')
    if _deeper_than(state, STATE_DEPTH):
        raise ValueError(f"is nested deeper than {STATE_DEPTH} levels")
    return state


def _deeper_than(value: Any, levels: int) -> bool:
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return levels <= 0 or any(_deeper_than(child, levels - 1) for child in children)


# ---------------------------------------------------------------------- the kinds

_USER = KindField("username", "User name", max=320)
_PASSWORD = KindField("password", "Password", secret=True, required=True, type="password", max=4_000)

_ALL = (
    Kind("password", "User name and password", (_USER, _PASSWORD), help="A login as a page asks for it."),
    Kind(
        "api_key",
        "API key",
        (KindField("api_key", "API key", secret=True, required=True, type="password", max=8_000, check=_header_value),),
        main="api_key",
        help="One key, sent in a header or in the address.",
    ),
    Kind(
        "basic",
        "Basic authentication",
        (KindField("username", "User name", required=True, max=320, check=_user), _PASSWORD),
        help='"user_password" gives both as user:password, as Authorization Type basic wants it.',
        derived={"user_password": "{username}:{password}"},
    ),
    Kind(
        "bearer",
        "Bearer token",
        (KindField("token", "Token", secret=True, required=True, type="password", max=16_000, check=_header_value),),
        main="token",
        help="A token that is sent as “Authorization: Bearer …”.",
    ),
    Kind(
        "smtp",
        "Mail server (SMTP)",
        (
            KindField("host", "Server", required=True, max=253, help="For example smtp.example.com", check=_host),
            KindField("port", "Port", type="number", max=5, default="587", help="587, or 465 for SSL", check=_port),
            _USER,
            KindField("password", "Password", secret=True, type="password", max=4_000),
            KindField(
                "security", "Security", type="choice", options=("starttls", "ssl", "none"), default="starttls", max=8
            ),
        ),
    ),
    Kind(
        "twilio",
        "Twilio",
        (
            KindField("account_sid", "Account SID", required=True, max=64, help="Begins with AC", check=_account_sid),
            KindField(
                "auth_token", "Auth token", secret=True, required=True, type="password", max=400, check=_auth_token
            ),
            KindField("from_number", "From number", max=20, help="For example +491701234567", check=_sender),
            KindField(
                "base_url", "Address", type="url", max=500, default="https://api.twilio.com",
                check=_address(("https", "http"), "https://api.twilio.com"),
            ),
        ),
        main="auth_token",
    ),
    Kind(
        "openai",
        "OpenAI and compatible",
        (
            KindField(
                "api_key", "API key", secret=True, required=True, type="password", max=8_000, check=_header_value
            ),
            KindField(
                "base_url", "Address", type="url", max=500, default="https://api.openai.com/v1",
                check=_address(("https", "http"), "https://api.openai.com/v1"),
            ),
            KindField("organization", "Organization", max=200, check=_header_value),
            KindField("model", "Model", max=200, help='A node takes it where it asks for the field "model"'),
        ),
        main="api_key",
    ),
    Kind(
        "proxy",
        "Proxy",
        (
            KindField(
                "server", "Server", required=True, type="url", max=500, help="For example http://proxy.example.com:3128",
                check=_address(("http", "https", "socks5"), "http://proxy.example.com:3128"),
            ),
            _USER,
            KindField("password", "Password", secret=True, type="password", max=4_000),
        ),
    ),
    Kind(
        "browser_state",
        "Browser storage state",
        (
            KindField(
                "state", "Storage state", secret=True, required=True, type="json", max=STATE_LIMIT_BYTES,
                help="What context.storage_state() of Playwright gives: cookies and local storage, as JSON.",
                check=_storage_state,
            ),
        ),
        main="state",
        help="A browser that begins with it is logged in already.",
    ),
    Kind("custom", "Own fields", (), help="Fields of any name; all of them are secret.", free=True),
)  # fmt: skip

KINDS: dict[str, Kind] = {kind.name: kind for kind in _ALL}
ALIASES = {"token": "bearer", "generic": "custom"}
"""What kinds were called before."""


def kind_of(name: str) -> Kind:
    """Return the kind called ``name``, also by an older name; one that is not known takes any fields."""
    return KINDS.get(ALIASES.get(name, name)) or KINDS["custom"]


def check(kind: str, fields: Mapping[str, Any]) -> list[Problem]:
    """Return everything that is wrong with ``fields`` of a credential of ``kind``; empty if it may be stored.

    An empty text counts as not given.
    """
    known = KINDS.get(ALIASES.get(kind, kind))
    if known is None:
        return [Problem("", f'there is no kind "{kind[:40]}"; there are {", ".join(KINDS)}')]
    problems = [Problem(str(name), "is not a text") for name, value in fields.items() if not isinstance(value, str)]
    texts = {name: value for name, value in fields.items() if isinstance(value, str) and value}
    told = {problem.field for problem in problems}
    return problems + [one for one in (_free(texts) if known.free else _fixed(known, texts)) if one.field not in told]


def _free(fields: Mapping[str, str]) -> Iterator[Problem]:
    if not fields:
        yield Problem("", 'needs at least one field, such as "client_secret"')
    if len(fields) > CUSTOM_FIELDS:
        yield Problem("", f"has {len(fields)} fields; {CUSTOM_FIELDS} are allowed")
    for name in fields:
        if not _NAME.fullmatch(name):
            yield Problem(name[:64], "has a name that is not of letters, digits, _, . and - (at most 64)")


def _fixed(kind: Kind, fields: Mapping[str, str]) -> Iterator[Problem]:
    names = ", ".join(f'"{one.name}"' for one in kind.fields)
    for name in fields:
        if kind.field(name) is None:
            yield Problem(name[:64], f"is none of a {kind.name} credential; it has {names}")
    for one in kind.fields:
        value = fields.get(one.name, "")
        if not value and one.required:
            yield Problem(one.name, "is missing")
        elif value and (problem := one.problem(value)):
            yield Problem(one.name, problem)


def field_name(kind: str, names: Any, wanted: str) -> str | None:
    """Return the field which a reference means that asks for ``wanted``, or None if there is no such field.

    ``names`` are those that the credential has. ``wanted`` is "password" or empty where a workflow names no field;
    that is the main field of the kind.
    """
    known = kind_of(kind)
    if wanted in names or known.field(wanted) is not None or wanted in known.derived:
        return wanted
    if wanted not in ("", "password"):
        return None
    if known.free:
        return next(iter(names)) if len(names) == 1 else None
    return known.main if known.main in names else None


def value(kind: str, fields: Mapping[str, str], name: str) -> str:
    """Return a field as nodes get it: what is stored, what is made of it, or the default; empty if left out."""
    known = kind_of(kind)
    if name in known.derived:
        return known.derived[name].format_map({one.name: fields.get(one.name, "") for one in known.fields})
    default = known.field(name)
    return fields.get(name) or (default.default if default else "")


def is_secret(kind: str, name: str) -> bool:
    """Return whether a field must never be shown; every field that the kind does not know is."""
    known = kind_of(kind).field(name)
    return known is None or known.secret


def shown(kind: str, fields: Mapping[str, str]) -> dict[str, str]:
    """Return the fields that people may see again, such as a user name or a server."""
    return {name: value for name, value in fields.items() if not is_secret(kind, name)}


def secret_values(kind: str, fields: Mapping[str, str]) -> set[str]:
    """Return every text that must not show, when a credential is in use.

    These are the secret fields and, of those that hold several secrets, the parts: the lines of a key, and what cookies
    and local storage of a browser hold.
    """
    known = kind_of(kind)
    found = {value for name, value in fields.items() if value and is_secret(kind, name)}
    found |= {value(kind, fields, name) for name in known.derived}
    for secret in tuple(found):
        if "\n" in secret:
            lines = (line.strip() for line in secret.splitlines())
            found |= {line for line in lines if len(line) >= SHORTEST_PART and not line.startswith("-----")}
    if known.name == "browser_state" and fields.get("state"):
        found |= set(_state_secrets(fields["state"]))
    return found


def _state_secrets(text: str) -> Iterator[str]:
    try:
        state = load_state(text)
        held = [*state["cookies"], *(item for origin in state["origins"] for item in origin.get("localStorage", []))]
        values = [item["value"] for item in held]
    except (ValueError, KeyError, TypeError, AttributeError):
        return  # stored before it was checked; the whole text is looked for
    yield from (value for value in values if isinstance(value, str) and len(value) >= SHORTEST_PART)
