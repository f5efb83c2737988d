"""Find what a page shows of a secret, so that a picture of the page can be taken without it.

The search runs in the isolated world of Playwright: scripts of the page share no object with it, so a page learns no
secret that it was not given.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Collection, Iterable
from typing import Final

from recordings.redaction import SHORTEST_INSIDE, forms

ENGINE: Final = "flowbuilder-secret"
"""The name under which Playwright knows the search."""
COLOUR: Final = "#000000"
PASSWORDS: Final = "input[type=password]"
LONGEST: Final = 2_000
"""A longer secret is not looked for as a whole; of those that hold several, the parts are known."""
MOST: Final = 4_000

SCRIPT: Final = r"""({
  query(root, body) { return this.queryAll(root, body)[0] || null; },
  queryAll(root, body) {
    const bare = (text) => (text || '').replace(/\s+/g, '');
    const [parts, wholes] = JSON.parse(atob(body));
    const all = [];
    const collect = (node) => {
      for (const element of node.querySelectorAll('*')) {
        all.push(element);
        if (element.shadowRoot) collect(element.shadowRoot);
      }
    };
    if (root.nodeType === 1) all.push(root);
    collect(root);
    const count = (text, word) => text.split(word).length - 1;
    const shows = (text) => {
      const one = bare(text);
      return one !== '' && (wholes.includes(one) || parts.some((word) => one.includes(word)));
    };
    const found = new Set();
    const up = (element) => element.parentElement || element.getRootNode().host || null;
    const note = (element) => {
      const start = element.closest('select') || element;
      const range = start.ownerDocument.createRange();
      range.selectNodeContents(start);
      const text = range.getBoundingClientRect();
      for (let target = start; target; target = up(target)) {
        const box = target.getBoundingClientRect();
        const boxed = getComputedStyle(target).display !== 'contents';
        const inside = text.width === 0 || text.height === 0 || (box.left <= text.left + 1 && box.top <= text.top + 1 &&
          box.right >= text.right - 1 && box.bottom >= text.bottom - 1);
        if (boxed && inside) { found.add(target); return; }
      }
      found.add(start.ownerDocument.documentElement);
    };
    const texts = new Map(all.map((element) => [element, null]));
    const textOf = (element) => {
      if (texts.get(element) == null) texts.set(element, bare(element.textContent));
      return texts.get(element);
    };
    for (const element of all) {
      if (['SCRIPT', 'STYLE', 'HEAD', 'TITLE', 'NOSCRIPT', 'TEMPLATE'].includes(element.tagName)) continue;
      if (typeof element.value === 'string' && shows(element.value)) note(element);
      if (element.placeholder && shows(element.placeholder)) note(element);
      if (element.alt && shows(element.alt)) note(element);
      if ([...element.attributes].some((attribute) => shows(attribute.value)) &&
          ['::before', '::after'].some((side) => shows(getComputedStyle(element, side).content))) note(element);
      const text = textOf(element);
      if (!text) continue;
      const children = [...element.children].map(textOf);
      if (wholes.includes(text) && !children.includes(text)) note(element);
      else if (parts.some((word) => text.includes(word) &&
          count(text, word) > children.reduce((sum, child) => sum + count(child, word), 0))) note(element);
    }
    for (const host of all) {
      if (!host.shadowRoot) continue;
      const own = [...host.shadowRoot.childNodes].filter((node) => node.nodeType === 3).map((node) => node.data).join('');
      if (shows(own)) note(host);
    }
    return [...found];
  },
})"""


def selector(secrets: Collection[str]) -> str:
    """Return the selector of elements that show one of ``secrets``, as it is or encoded; empty if there is none.

    Blanks and line breaks do not count. A secret of fewer than four characters is found where it is all of a text.
    """
    short = {word for secret in secrets if (word := _bare(secret)) and len(word) < SHORTEST_INSIDE}
    long = [word for secret in secrets if len(word := _bare(secret)) >= SHORTEST_INSIDE and len(secret) <= LONGEST]
    parts = list(dict.fromkeys([*long, *_encoded(secrets)]))[:MOST]
    if not parts and not short:
        return ""
    body = base64.b64encode(json.dumps([parts, sorted(short)]).encode()).decode()
    return f"{ENGINE}={body}"


def _encoded(secrets: Iterable[str]) -> Iterable[str]:
    for secret in secrets:
        if SHORTEST_INSIDE <= len(secret) <= LONGEST:
            yield from (word for form in forms(secret) if len(word := _bare(form)) >= SHORTEST_INSIDE)


def _bare(text: str) -> str:
    return "".join(text.split())
