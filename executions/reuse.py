"""Results that were computed before: a node with ``cache_ttl_s`` takes them over instead of running again.

They lie in Redis until their time is over, under a key that nobody can guess from the inputs. A result that is gone,
or a Redis that is away, means only that the node runs.
"""

from __future__ import annotations

import hashlib
import inspect
import logging
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

import msgspec
import redis
from django.conf import settings
from django.utils.crypto import salted_hmac

from executions import runtime, states
from executions.context import Context
from executions.drafts import node_event
from executions.runtime import Finished, Item, Noted, Ready
from executions.store import encode_json, now_us
from recordings.events import RecordingEventType as Kind
from workflows.registry import NODE_REGISTRY

logger = logging.getLogger(__name__)

PREFIX = "flowbuilder:result:"
LARGEST_BYTES = 2**20
"""Larger results are not kept; they would fill Redis."""
REDIS_SECONDS = 1.0


def wants(node: Ready) -> bool:
    """Return whether a node may take over an earlier result: it says so, and a run changes nothing outside."""
    planned = node.planned
    if not planned.node.policy.cache_ttl_s or planned.description.waits:
        return False
    return node.problem is None and node.raised is None and runtime.effect_of(node) in ("pure", "read")


def run_header(context: Context, nodes: Sequence[Ready], claim: str = "") -> Iterator[list[Item]]:
    """Do as ``runtime.run_header``, except that nodes whose result is kept end with it at once, for nothing."""
    keys = {item.planned.index: key for item in nodes if wants(item) and (key := _key(context, item))}
    if not keys:
        yield from runtime.run_header(context.facts(), nodes, claim)
        return
    known = _read(keys)
    hits = [item for item in nodes if item.planned.index in known]
    if hits:
        yield [happened for item in hits for happened in _taken_over(item, known[item.planned.index])]
    rest = [item for item in nodes if item.planned.index not in known]
    lives = {item.planned.index: item.planned.node.policy.cache_ttl_s for item in rest}
    if rest:
        for items in runtime.run_header(context.facts(), rest, claim):
            for item in items:
                if isinstance(item, Finished) and item.status == states.COMPLETED and item.index in keys:
                    _keep(context, keys[item.index], item, lives[item.index])
            yield items


def _key(context: Context, item: Ready) -> str:
    """Return the key of a result: owner, type with its code, inputs with secrets, and variables; empty if it has none."""
    node_type = item.planned.node.type
    facts = [context.owner_id, node_type, _code_of(node_type), item.inputs, context.variables]
    try:
        content = msgspec.json.encode(facts, order="deterministic")
    except (TypeError, ValueError, RecursionError):
        return ""
    return PREFIX + salted_hmac(PREFIX, content, algorithm="sha256").hexdigest()


@cache
def _code_of(node_type: str) -> str:
    """Return a digest of what runs nodes of a type, so that a changed one does not give the results of the old."""
    try:
        source = inspect.getsource(NODE_REGISTRY[node_type])
    except (OSError, TypeError):
        source = repr(NODE_REGISTRY[node_type])
    return hashlib.sha256(source.encode()).hexdigest()


@cache
def _client() -> redis.Redis:
    seconds = REDIS_SECONDS
    return redis.Redis.from_url(settings.REDIS_URL, socket_timeout=seconds, socket_connect_timeout=seconds, retry=None)


def _read(keys: Mapping[int, str]) -> dict[int, dict[str, Any]]:
    """Return the results that are kept, by node index."""
    try:
        found: Any = _client().mget(list(keys.values()))
        return {index: msgspec.json.decode(text) for index, text in zip(keys, found, strict=True) if text}
    except (redis.RedisError, OSError, msgspec.DecodeError) as error:
        logger.warning("kept results cannot be read now, their nodes run: %s", error)
        return {}


def _taken_over(item: Ready, kept: Mapping[str, Any]) -> tuple[Item, Item]:
    planned, now = item.planned, now_us()
    age = max(0, now - kept["ended_us"]) // 1_000_000
    data = {
        "message": f"took over the result of {age} s ago; 0 credits",
        "level": "info",
        "computed_in": kept["execution"],
    }
    ended = Finished(
        planned.index, states.COMPLETED, item.attempt, item.started_us or now, now,
        outputs=kept["outputs"], variables=kept["variables"], cached=True,
    )  # fmt: skip
    return Noted(planned.index, node_event(Kind.LOG, planned, data, now)), ended


def _keep(context: Context, key: str, item: Finished, seconds: float) -> None:
    result = {
        "outputs": item.outputs, "variables": item.variables, "ended_us": item.ended_us, "execution": str(context.id),
    }  # fmt: skip
    try:
        content = encode_json(context.redact(result))
        if len(content) <= LARGEST_BYTES:
            _client().set(key, content, px=max(1, int(seconds * 1000)))
    except (TypeError, ValueError, RecursionError):
        return  # no JSON: the node is about to fail for it
    except (redis.RedisError, OSError) as error:
        logger.warning("the result of a node is not kept: %s", error)
