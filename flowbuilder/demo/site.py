"""The demo site, plain ASGI: a shop behind a login, its list rendered by JavaScript, and a webhook sink.

* ``/login``          form; user ``demo``, password ``demo-password``
* ``/shop``           the products, filled in by a script a moment after the page has loaded
* ``/api/products``   the same as JSON; needs the session cookie of the login
* ``/sink``           POST stores what it gets, GET lists it; ``?execution=`` keeps the deliveries of one execution

What the sink accepts is on disk (``FLOWBUILDER_DEMO_LEDGER``, one JSON object per line) before it answers,
so the ledger can be trusted after any process was killed. Without that setting it is kept in memory.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import os
import secrets
import time
from collections.abc import Awaitable, Callable, MutableMapping
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

USER = "demo"
PASSWORD = "demo-password"  # noqa: S105 - the site says it on its login page
LEDGER_SETTING = "FLOWBUILDER_DEMO_LEDGER"
BODY_LIMIT_BYTES = 1024 * 1024
SESSION_LIMIT = 10_000

PRODUCTS: tuple[dict[str, Any], ...] = (
    {"name": "Enamel camping mug", "price": 9.5, "note": "350 ml, survives a fall", "art": "☕"},
    {"name": "Linen notebook", "price": 12.9, "note": "192 dotted pages", "art": "📓"},
    {"name": "Beeswax candle", "price": 16.0, "note": "Burns for 40 hours", "art": "🕯️"},
    {"name": "Walnut pen tray", "price": 24.5, "note": "Oiled by hand", "art": "🖊️"},
    {"name": "Wool throw", "price": 59.0, "note": "130 × 180 cm, undyed", "art": "🧶"},
    {"name": "Brass desk lamp", "price": 89.0, "note": "Warm light, dimmable", "art": "💡"},
)

STYLE = """
:root { color-scheme: light dark; --ink:#1c2330; --soft:#667085; --line:#e4e7ec; --paper:#fff; --back:#f6f7f9;
  --accent:#3b5bdb; --good:#0b7a4b }
@media (prefers-color-scheme: dark) { :root { --ink:#e8eaf0; --soft:#98a1b3; --line:#2b3241; --paper:#181d27;
  --back:#10141b; --accent:#8da2fb; --good:#5bd6a0 } }
* { box-sizing:border-box } body { margin:0; background:var(--back); color:var(--ink);
  font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif }
header { background:var(--paper); border-bottom:1px solid var(--line); padding:18px 32px; display:flex;
  justify-content:space-between; align-items:center } header b { font-size:18px; letter-spacing:-.01em }
header a { color:var(--soft); text-decoration:none } main { max-width:1040px; margin:0 auto; padding:40px 32px }
h1 { font-size:28px; letter-spacing:-.02em; margin:0 0 4px } .lead { color:var(--soft); margin:0 0 28px }
.card { background:var(--paper); border:1px solid var(--line); border-radius:14px; padding:28px;
  box-shadow:0 1px 2px rgb(16 24 40 / 6%) } .login { max-width:400px; margin:48px auto }
label { display:block; font-weight:600; font-size:14px; margin:16px 0 6px } input { width:100%; padding:10px 12px;
  font:inherit; border:1px solid var(--line); border-radius:9px; background:var(--back); color:inherit }
input:focus-visible, button:focus-visible { outline:3px solid color-mix(in srgb, var(--accent) 40%, transparent) }
button { margin-top:22px; width:100%; padding:11px; font:inherit; font-weight:600; color:#fff; background:#3b5bdb;
  border:0; border-radius:9px; cursor:pointer } .hint { color:var(--soft); font-size:14px; margin:18px 0 0 }
.error { color:#c01048; font-weight:600 } .grid { display:grid; gap:20px; grid-template-columns:repeat(auto-fill,
  minmax(280px,1fr)) } .art { font-size:40px; height:96px; border-radius:10px; background:var(--back); display:grid;
  place-items:center; margin-bottom:16px } .product h2 { font-size:17px; margin:0 } .product p { margin:2px 0 14px;
  color:var(--soft); font-size:14px } .price { font-weight:700; color:var(--good); font-size:18px }
.ghost { height:232px; border-radius:14px; background:var(--line); opacity:.6 }
"""

LAYOUT = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title} · Field &amp; Desk</title><link rel="stylesheet" href="/shop.css">
<link rel="icon" href="data:,"></head>
<body><header><b>Field &amp; Desk</b>{corner}</header><main>{body}</main></body></html>
"""

LOGIN = """<form class="card login" method="post" action="/login">
<h1>Welcome back</h1><p class="lead">Log in to see today's prices.</p>{error}
<label for="username">User name</label><input id="username" name="username" autocomplete="username" required>
<label for="password">Password</label>
<input id="password" name="password" type="password" autocomplete="current-password" required>
<button type="submit">Log in</button>
<p class="hint">This is the demo shop of Flow Builder: user <code>demo</code>, password <code>demo-password</code>.</p>
</form>"""

SHOP = """<h1>Products</h1><p class="lead">Six good things, cheapest first.</p>
<div id="products" class="grid" aria-busy="true"><div class="ghost"></div><div class="ghost"></div>
<div class="ghost"></div></div><script src="/shop.js"></script>"""

SCRIPT = """"use strict";
setTimeout(async () => {
  const list = document.getElementById("products");
  const answer = await fetch("/api/products");
  if (!answer.ok) { location.href = "/login"; return; }
  const { products } = await answer.json();
  const money = new Intl.NumberFormat("en", { style: "currency", currency: "EUR" });
  list.replaceChildren(...products.map((product) => {
    const card = document.createElement("article");
    card.className = "card product";
    for (const [tag, name, text] of [["div", "art", product.art], ["h2", "name", product.name],
        ["p", "note", product.note], ["span", "price", money.format(product.price)]]) {
      const part = document.createElement(tag);
      part.className = name;
      part.textContent = text;
      card.append(part);
    }
    card.querySelector(".price").dataset.price = product.price.toFixed(2);
    return card;
  }));
  list.setAttribute("aria-busy", "false");
}, 400);
"""


class Ledger:
    """What the sink accepted, in order; an Idempotency-Key that came before is not kept again."""

    def __init__(self, path: str = "") -> None:
        self._path = Path(path) if path else None
        self._memory: list[dict[str, Any]] = []
        self._lock = asyncio.Lock()
        self._keys: set[str] | None = None

    async def append(self, entry: dict[str, Any]) -> bool:
        """Keep ``entry``; it is on disk when this returns. Return False for a repeated key, which changes nothing."""
        async with self._lock:
            if self._keys is None:
                self._keys = {_key(kept) for kept in await self._kept()}
            key = _key(entry)
            if key and key in self._keys:
                return False
            if self._path is None:
                self._memory.append(entry)
            else:
                await asyncio.to_thread(self._write, json.dumps(entry, ensure_ascii=False) + "\n")
            self._keys.add(key)
            return True

    async def entries(self, prefix: str = "") -> list[dict[str, Any]]:
        """Return what was kept, optionally only entries whose Idempotency-Key begins with ``prefix``."""
        async with self._lock:
            return [entry for entry in await self._kept() if _key(entry).startswith(prefix)]

    async def _kept(self) -> list[dict[str, Any]]:
        return list(self._memory) if self._path is None else await asyncio.to_thread(self._read)

    def _write(self, line: str) -> None:
        assert self._path is not None  # noqa: S101 - for the type checker
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a+b") as file:
            if file.tell() and not self._ends_with_newline():
                line = "\n" + line  # the writer before was killed in the middle of its line
            file.write(line.encode())
            file.flush()
            os.fsync(file.fileno())

    def _ends_with_newline(self) -> bool:
        assert self._path is not None  # noqa: S101 - for the type checker
        with self._path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read(1) == b"\n"

    def _read(self) -> list[dict[str, Any]]:
        assert self._path is not None  # noqa: S101 - for the type checker
        entries = []
        if self._path.exists():
            for line in self._path.read_text(encoding="utf-8").splitlines():
                try:
                    entries.append(json.loads(line))
                except ValueError:
                    continue  # the torn line of a killed writer; it was never acknowledged
        return entries


class DemoSite:
    """The ASGI application."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._sessions: dict[str, float] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
            return
        if scope["type"] != "http":
            return
        body = await _body(receive)
        if body is None:
            await _send(send, 413, b"The body is larger than 1 MiB.", "text/plain")
            return
        await self._route(scope, body, send)

    async def _route(self, scope: Scope, body: bytes, send: Send) -> None:
        match (scope["method"], scope["path"]):
            case ("GET", "/"):
                await _redirect(send, "/shop")
            case ("GET", "/login"):
                await _page(send, "Log in", LOGIN.replace("{error}", ""))
            case ("POST", "/login"):
                await self._log_in(body, send)
            case ("GET", "/logout"):
                await _redirect(send, "/login", cookie="session=; Max-Age=0; Path=/; HttpOnly; SameSite=Lax")
            case ("GET", "/shop"):
                if not self._known(scope):
                    await _redirect(send, "/login")
                    return
                await _page(send, "Products", SHOP, '<a href="/logout">Log out</a>')
            case ("GET", "/api/products"):
                if not self._known(scope):
                    await _json(send, 401, {"detail": "Log in first."})
                    return
                await _json(send, 200, {"products": PRODUCTS})
            case ("GET", "/shop.css"):
                await _send(send, 200, STYLE.encode(), "text/css")
            case ("GET", "/shop.js"):
                await _send(send, 200, SCRIPT.encode(), "text/javascript")
            case (_, "/sink"):
                await self._sink(scope, body, send)
            case _:
                await _page(send, "Not found", "<h1>There is nothing here</h1>", status=404)

    async def _log_in(self, body: bytes, send: Send) -> None:
        form = parse_qs(body.decode("utf-8", "replace"))
        user, password = form.get("username", [""])[0], form.get("password", [""])[0]
        if not (
            hmac.compare_digest(user.encode(), USER.encode())
            & hmac.compare_digest(password.encode(), PASSWORD.encode())
        ):
            wrong = '<p class="error" role="alert">User name or password is wrong.</p>'
            await _page(send, "Log in", LOGIN.replace("{error}", wrong), status=403)
            return
        if len(self._sessions) >= SESSION_LIMIT:
            self._sessions.pop(next(iter(self._sessions)))
        token = secrets.token_urlsafe(24)
        self._sessions[token] = time.time()
        await _redirect(send, "/shop", cookie=f"session={token}; Path=/; HttpOnly; SameSite=Lax")

    def _known(self, scope: Scope) -> bool:
        cookies = SimpleCookie()
        try:
            cookies.load(_headers(scope).get("cookie", ""))
        except CookieError:
            return False
        session = cookies.get("session")
        return session is not None and session.value in self._sessions

    async def _sink(self, scope: Scope, body: bytes, send: Send) -> None:
        if scope["method"] == "GET":
            query = parse_qs(scope["query_string"].decode("latin-1"))
            await _json(send, 200, await self._ledger.entries(query.get("execution", [""])[0]))
            return
        text = body.decode("utf-8", "replace")
        try:
            content: Any = json.loads(text)
        except ValueError:
            content = text
        headers = {name: value for name, value in _headers(scope).items() if name not in ("authorization", "cookie")}
        entry = {"at": time.time(), "method": scope["method"], "headers": headers, "body": content}
        await _json(send, 200, {"status": "stored" if await self._ledger.append(entry) else "repeated"})


def _key(entry: dict[str, Any]) -> str:
    return str(entry["headers"].get("idempotency-key", ""))


def _headers(scope: Scope) -> dict[str, str]:
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}


async def _body(receive: Receive) -> bytes | None:
    """Return the request's body, or None when it is too large."""
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return b"".join(parts)
        part: bytes = message.get("body", b"")
        size += len(part)
        if size > BODY_LIMIT_BYTES:
            return None
        parts.append(part)
        if not message.get("more_body"):
            return b"".join(parts)


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


async def _send(
    send: Send, status: int, body: bytes, content_type: str, headers: tuple[tuple[bytes, bytes], ...] = ()
) -> None:
    kind = f"{content_type}; charset=utf-8".encode()
    own = [(b"content-type", kind), (b"content-length", str(len(body)).encode()), (b"cache-control", b"no-store")]
    await send({"type": "http.response.start", "status": status, "headers": [*own, *headers]})
    await send({"type": "http.response.body", "body": body})


async def _page(send: Send, title: str, body: str, corner: str = "", *, status: int = 200) -> None:
    html = LAYOUT.replace("{title}", title).replace("{corner}", corner).replace("{body}", body)
    await _send(send, status, html.encode(), "text/html")


async def _json(send: Send, status: int, value: Any) -> None:
    await _send(send, status, json.dumps(value, ensure_ascii=False).encode(), "application/json")


async def _redirect(send: Send, path: str, *, cookie: str = "") -> None:
    headers: tuple[tuple[bytes, bytes], ...] = ((b"location", path.encode()),)
    if cookie:
        headers += ((b"set-cookie", cookie.encode()),)
    await _send(send, 303, b"", "text/plain", headers)


application = DemoSite(Ledger(os.environ.get(LEDGER_SETTING, "")))
