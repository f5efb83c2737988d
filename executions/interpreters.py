"""Run a person's code in an interpreter that has no way out: no files, no network, no clock to wait on, no host.

Python runs in Monty, an interpreter of its own in a process of its own; JavaScript in QuickJS, inside this
process. Both get a value, give a value and what was printed, and stop at their limits of time, memory, recursion
and output. What an interpreter itself does wrong is caught by ``confinement``.
"""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from datetime import time as time_of_day
from typing import Any, NoReturn

from executions.errors import NodeFailed

RECURSION = 400
PRINTED_CHARACTERS = 256 * 1024
RESULT_BYTES = 4 * 1024 * 1024
DEEPEST = 100
STACK_BYTES = 512 * 1024
LARGEST_INTEGER = 2**63


@dataclass(frozen=True, slots=True)
class Code:
    """A program and its limits: ``data`` is plain JSON, ``seconds`` of execution, ``memory`` bytes of its heap."""

    source: str
    data: Any
    seconds: float
    memory: int


@dataclass(slots=True)
class Ran:
    """What a program gave: a plain JSON value and the text that it printed."""

    value: Any = None
    printed: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """Return everything that was printed."""
        return "".join(self.printed)


def run(language: str, code: Code) -> Ran:
    """Run ``code`` and return what it gave. Blocks the calling thread without keeping the interpreter's lock.

    Raises:
        NodeFailed: code "code" for an error of the program itself, "timeout" or "resource" for a limit.
    """
    return _python(code) if language == "python" else _javascript(code)


def _fail(message: str, code: str = "code") -> NoReturn:
    raise NodeFailed(message, code=code, retryable=False)


def _over_time(code: Code) -> NoReturn:
    _fail(f"the code did not finish within {code.seconds:g} s", "timeout")


def _over_memory(code: Code) -> NoReturn:
    _fail(f"the code used more than {code.memory // 2**20} MiB of memory", "resource")


def _over_recursion() -> NoReturn:
    _fail("the code calls itself too deeply", "resource")


def _over_print() -> NoReturn:
    _fail(f"the code printed more than {PRINTED_CHARACTERS // 1024} Ki characters", "resource")


# --------------------------------------------------------------------------- Python


def _python(code: Code) -> Ran:
    from pydantic_monty import Monty, MontyConversionError, MontyCrashedError, MontyRuntimeError, MontySyntaxError

    ran = Ran()
    size = 0

    def printed(_stream: str, text: str) -> None:
        nonlocal size
        size += len(text)
        if size <= PRINTED_CHARACTERS:
            ran.printed.append(text)

    limits: Any = {
        "max_feed_duration_secs": code.seconds,
        "max_memory": code.memory,
        "max_recursion_depth": RECURSION,
        "max_suspensions": 1000,
        "max_total_sleep_secs": 0.0,
    }
    try:
        with (
            Monty(min_processes=1, max_processes=1, request_timeout=code.seconds + 2) as pool,
            pool.checkout(limits=limits, script_name="code.py", os_policy={"sleep": "zero"}) as session,
        ):
            value = session.feed_run(
                code.source, inputs={"data": code.data, "inputs": code.data}, print_callback=printed
            )
            if value is None:
                value = _named_result(session, printed)
    except MontySyntaxError as error:
        _fail(error.display())
    except MontyConversionError as error:
        _fail(f"the data cannot be given to the code: {error}", "invalid_input")
    except MontyCrashedError as error:
        if error.timed_out:
            _over_time(code)
        _fail(f"the interpreter ended: {error}", "resource")
    except MontyRuntimeError as error:
        if size > PRINTED_CHARACTERS:
            _over_print()
        match type(error.exception()).__name__:
            case "TimeoutError":
                _over_time(code)
            case "MemoryError":
                _over_memory(code)
            case "RecursionError":
                _over_recursion()
        _fail(error.display())
    if size > PRINTED_CHARACTERS:
        _over_print()
    ran.value = _plain(value)
    return ran


def _named_result(session: Any, printed: Any) -> Any:
    """Return what the program left in ``result``, None when there is no such name."""
    from pydantic_monty import MontyRuntimeError

    try:
        return session.feed_run("result", print_callback=printed)
    except MontyRuntimeError as error:
        if isinstance(error.exception(), NameError):
            return None
        raise


def _plain(value: Any) -> Any:
    """Return a value of Monty as plain JSON, within the limit of its size."""
    result = _as_json(value, 0)
    if len(json.dumps(result, ensure_ascii=False, separators=(",", ":"))) > RESULT_BYTES:
        _over_result()
    return result


def _over_result() -> NoReturn:
    _fail(f"the result is larger than {RESULT_BYTES // 2**20} MiB", "resource")


def _as_json(value: Any, depth: int) -> Any:
    if depth > DEEPEST:
        _fail(f"the result is nested deeper than {DEEPEST} levels", "resource")
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        if abs(value) >= LARGEST_INTEGER:
            _fail("the result holds an integer of more than 64 bits; return it as text")
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            _fail(f"the result holds {value}, which is not JSON")
        return value
    if isinstance(value, dict):
        return {_key(key): _as_json(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_as_json(item, depth + 1) for item in value]
    if isinstance(value, datetime | date | time_of_day):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    return _fail(f"the result holds a {type(value).__name__}, which is not JSON")


def _key(key: Any) -> str:
    if isinstance(key, str):
        return key
    if isinstance(key, int | float | bool) or key is None:
        return json.dumps(key)
    return _fail(f"the result has a {type(key).__name__} as a key, which is not JSON")


# --------------------------------------------------------------------------- JavaScript

_PREPARE = r"""
((source, limit) => {
  // Whatever the program throws is turned into text by the engine after its time: nothing of it may be the program's.
  Object.defineProperty(Error.prototype, Symbol.toPrimitive, {value: undefined});
  for (const kind of [Error, EvalError, RangeError, ReferenceError, SyntaxError, TypeError, URIError,
                      InternalError, AggregateError, SuppressedError, DOMException]) Object.freeze(kind.prototype);
  for (const name of ["prepareStackTrace", "stackTraceLimit"])
    Object.defineProperty(Error, name, {value: undefined, writable: false, configurable: false});

  const {stringify, parse} = JSON, text = String, run = eval, promise = Promise, type = (value) => typeof value;
  const lines = [];
  let size = 0, result;
  const print = (...values) => {
    const line = values.map((value) => type(value) === "object" ? stringify(value) : text(value)).join(" ") + "\n";
    size += line.length;
    if (size <= limit) lines.push(line);
  };
  const fixed = (name, value) =>
    Object.defineProperty(globalThis, name, {value, writable: false, configurable: false, enumerable: false});
  delete globalThis.__source;
  delete globalThis.performance;
  globalThis.data = globalThis.inputs = parse(source);
  globalThis.print = print;
  globalThis.console = {log: print, info: print, warn: print, error: print, debug: print};
  fixed("$keep", (value) => { result = value; });
  fixed("$run", (program) => {
    let value;
    try {
      value = run(program + "\n;const $done = $keep(typeof result === 'undefined' ? undefined : result);");
    } catch (error) {
      if (size > limit) return stringify({over: true});
      if (error === null) return stringify({error: "out of memory"});
      let message;
      try { message = error instanceof Error ? error.name + ": " + error.message : "threw " + text(error); }
      catch { message = "threw a value that has no text"; }
      let at = "";
      try { at = text(error.stack ?? "").split("\n    at eval (native)")[0]; } catch {}
      return stringify({error: text(message).slice(0, 4000), at: at.slice(0, 1000)});
    }
    if (value === undefined) value = result;
    if (value instanceof promise) return stringify({error: "the result is a promise; the code runs without await"});
    if (size > limit) return stringify({over: true});
    let encoded;
    try { encoded = stringify(value); }
    catch (error) { return stringify({error: "the result is not JSON: " + text(error.message)}); }
    if (type(value) === "function" || type(value) === "symbol")
      return stringify({error: "the result is a " + type(value) + ", which is not JSON"});
    return stringify({value: encoded ?? "null", printed: lines.join("")});
  });
})
"""


def _javascript(code: Code) -> Ran:
    import quickjs

    context = quickjs.Context()
    context.set_max_stack_size(STACK_BYTES)
    context.set_memory_limit(code.memory)
    began = time.monotonic()
    context.set_time_limit(code.seconds)
    try:
        context.set("$program", code.source)
        context.set("$data", json.dumps(code.data))
        context.eval(f"({_PREPARE})($data, {PRINTED_CHARACTERS}); delete globalThis.$data;")
        answer = context.eval("$run((() => { const taken = $program; delete globalThis.$program; return taken; })())")
    except quickjs.StackOverflow:
        _over_recursion()
    except quickjs.JSException as error:
        message = str(error)
        if "interrupted" in message:
            _over_time(code)
        if "out of memory" in message or message.strip() == "null":
            _over_memory(code)
        _fail(message.partition("\n")[0] or "the code failed")
    except (UnicodeError, ValueError) as error:
        _fail(f"the result cannot be read: {error}")
    if time.monotonic() - began > code.seconds + 1:
        _over_time(code)
    if not isinstance(answer, str):
        _fail("the code changed the interpreter that runs it")
    return _read_answer(answer, code)


def _read_answer(answer: str, code: Code) -> Ran:
    """Return what the program gave. The answer is the program's to forge, so it is read like any foreign text."""
    if len(answer) > 2 * RESULT_BYTES + 2 * PRINTED_CHARACTERS:
        _over_result()
    try:
        given = json.loads(answer)
        if given.get("over"):
            _over_print()
        if "error" in given:
            message = str(given["error"])
            if "out of memory" in message:
                _over_memory(code)
            if "call stack size exceeded" in message:
                _over_recursion()
            _fail("\n".join(filter(None, (message, str(given.get("at") or "")))))
        encoded = str(given["value"])
        if len(encoded) > RESULT_BYTES:
            _over_result()
        return Ran(_as_json(json.loads(encoded), 0), [str(given.get("printed", ""))])
    except (ValueError, KeyError, AttributeError, RecursionError) as error:
        return _fail(f"the result is not JSON: {error}")
