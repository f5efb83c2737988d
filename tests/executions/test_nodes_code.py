"""The code node: what programs can do, and that nothing else is possible."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from executions import interpreters
from executions.errors import NodeFailed, NodeInputError, NotAllowed
from executions.triggers import start_execution
from tests.conftest import graph, node, outputs, wait_until_ended, wire
from tests.executions.conftest import TestEnvironment
from tests.executions.isolated_app import APP
from workflows.definition import Definition
from workflows.errors import ActivationRefused
from workflows.validation import Limits, validate

HEARTBEAT_GAP_SECONDS = 1.0
MEMORY = 64 * 2**20


@pytest.fixture
def code(env: TestEnvironment, settings: Any) -> Any:
    """Return a function that runs the node: ``await code("python", "1 + 1", data=…)``."""
    settings.CODE_NODES = True

    async def run(language: str, source: str, data: Any = None, seconds: float = 5) -> dict[str, Any]:
        inputs = {"Language": language, "Code": source, "Data": data, "Timeout (seconds)": seconds}
        return await env.run_named("code", inputs)

    return run


@pytest.mark.parametrize(
    ("language", "source", "data", "result", "printed"),
    [
        ("python", "data['a'] + 1", {"a": 1}, 2, ""),
        ("python", "data['a'] + 1", '{"a": 1}', 2, ""),
        ("python", "inputs", "plain text", "plain text", ""),
        ("python", "result = [n * 2 for n in data]", [1, 2], [2, 4], ""),
        ("python", "print('hello', 1)\n{'a': (1, 2)}", None, {"a": [1, 2]}, "hello 1\n"),
        ("python", "import re, json\nre.sub('a', 'b', json.dumps(data))", ["a"], '["b"]', ""),
        ("python", "x = 1", None, None, ""),
        ("javascript", "data.a + 1", {"a": 1}, 2, ""),
        ("javascript", "const result = data.map((n) => n * 2)", [1, 2], [2, 4], ""),
        ("javascript", "console.log('hello', {a: 1}); ({b: [null, 'ü']})", None, {"b": [None, "ü"]}, 'hello {"a":1}\n'),
        ("javascript", "inputs.length // a comment", "text", 4, ""),
        ("javascript", "let x = 1", None, None, ""),
    ],
)
async def test_code_gives_its_last_expression_or_result(
    code: Any, language: str, source: str, data: Any, result: Any, printed: str
) -> None:
    assert await code(language, source, data) == {"Result": result, "Printed": printed}


ATTACKS = [
    # files, processes, network, environment
    ("python", "open('/etc/passwd').read()", "code", "PermissionError"),
    ("python", "from pathlib import Path\nPath('/etc/passwd').read_text()", "code", "PermissionError"),
    ("python", "open('FOLDER/written', 'w').write('x')", "code", "PermissionError"),
    ("python", "import os\nos.listdir('/')", "code", "PermissionError"),
    ("python", "import os\nos.environ['HOME']", "code", "not supported"),
    ("python", "import os\nos.system('id')", "code", "has no attribute"),
    ("python", "import subprocess", "code", "No module named"),
    ("python", "import socket", "code", "No module named"),
    ("python", "import urllib.request", "code", "No module named"),
    ("python", "import ctypes", "code", "No module named"),
    ("python", "import django", "code", "No module named"),
    ("python", "__import__('os')", "code", "is not defined"),
    ("python", "().__class__.__bases__[0].__subclasses__()", "code", "has no attribute"),
    ("python", "(lambda: 0).__globals__", "code", "has no attribute"),
    ("python", "''.__class__.__mro__", "code", "has no attribute"),
    ("python", "'{0.__class__.__init__.__globals__}'.format(data)", "code", "has no attribute"),
    ("javascript", "require('fs')", "code", "is not defined"),
    ("javascript", "import('fs')", "code", "promise"),
    ("javascript", "std.open('/etc/passwd', 'r')", "code", "is not defined"),
    ("javascript", "os.exec(['id'])", "code", "is not defined"),
    ("javascript", "fetch('http://127.0.0.1/')", "code", "is not defined"),
    ("javascript", "new XMLHttpRequest()", "code", "is not defined"),
    ("javascript", "new Worker('x')", "code", "is not defined"),
    ("javascript", "WebAssembly.compile()", "code", "is not defined"),
    ("javascript", "data.constructor.constructor('return process')()", "code", "is not defined"),
    ("javascript", "(function(){}).constructor('return this')().process.exit()", "code", "undefined"),
    # time
    ("python", "while True: pass", "timeout", "did not finish within"),
    ("python", "import math\nmath.factorial(10**7)", "timeout", "did not finish within"),
    ("javascript", "while (true) {}", "timeout", "did not finish within"),
    ("javascript", "for (;;) try { for (;;); } catch {}", "timeout", "did not finish within"),
    ("javascript", "/^(a+)+$/.test('a'.repeat(40) + '!')", "timeout", "did not finish within"),
    ("javascript", "({toJSON() { while (true) {} }})", "timeout", "did not finish within"),
    ("javascript", "throw {toString() { while (true) {} }}", "timeout", "did not finish within"),
    ("javascript", "throw new Proxy({}, {getPrototypeOf() { while (true) {} }})", "timeout", "did not finish within"),
    # what the engine does after the time is over must not be the program's
    (
        "javascript",
        "Error.prototype.toString = () => { while (1) {} }; while (1) {}",
        "timeout",
        "did not finish within",
    ),
    (
        "javascript",
        "Object.prototype[Symbol.toPrimitive] = () => { while (1) {} }; while (1) {}",
        "timeout",
        "did not finish within",
    ),
    (
        "javascript",
        "Error.prepareStackTrace = () => { while (1) {} }; while (1) {}",
        "timeout",
        "did not finish within",
    ),
    # memory
    ("python", "x = []\nwhile True: x.append('a' * 1000000)", "resource", "64 MiB"),
    ("python", "'a' * 10**10", "resource", "64 MiB"),
    ("python", "1 << 10**12", "resource", "64 MiB"),
    ("javascript", "let x = []; while (true) x.push('a'.repeat(1e6) + x.length)", "resource", "64 MiB"),
    ("javascript", "let x = null; while (true) x = {x}", "resource", "64 MiB"),
    ("javascript", "'a'.repeat(2 ** 29)", "resource", "64 MiB"),
    # recursion
    ("python", "def f(n): return f(n + 1)\nf(0)", "resource", "deeply"),
    ("python", "x = []\nfor _ in range(50000): x = [x]\nx", "resource", "nested"),
    ("javascript", "function f(n) { return f(n + 1) } f(0)", "resource", "deeply"),
    ("javascript", "eval('('.repeat(1e6))", "resource", "deeply"),
    # output
    ("python", "for _ in range(1000): print('x' * 1000)", "resource", "printed"),
    ("python", "'x' * 5_000_000", "resource", "larger than 4 MiB"),
    ("javascript", "for (let i = 0; i < 1000; i++) console.log('x'.repeat(1000))", "resource", "printed"),
    ("javascript", "'x'.repeat(5e6)", "resource", "larger than 4 MiB"),
    # what is not JSON
    ("python", "float('nan')", "code", "not JSON"),
    ("python", "2 ** 200", "code", "64 bits"),
    ("javascript", "10n", "code", "not JSON"),
    ("javascript", "const a = {}; a.a = a; a", "code", "not JSON"),
    ("javascript", "(() => 1)", "code", "not JSON"),
    ("javascript", "Object.prototype.toJSON = () => 1; ({a: 1})", "code", "not JSON"),
    # plain mistakes
    ("python", "1 / 0", "code", "ZeroDivisionError"),
    ("python", "def (", "code", "SyntaxError"),
    ("javascript", "null.x", "code", "TypeError"),
    ("javascript", "function (", "code", "SyntaxError"),
]


class Heart:
    """A thread like the one that keeps a process's claims: how long was it ever kept from beating?

    In processor time of this process, so that the machine's other work is not counted.
    """

    def __init__(self) -> None:
        self.gap = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat)

    def _beat(self) -> None:
        last = time.process_time()
        while not self._stop.wait(0.01):
            now = time.process_time()
            self.gap, last = max(self.gap, now - last), now

    def __enter__(self) -> Heart:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


@pytest.fixture(scope="module")
def heart() -> Iterator[Heart]:
    """A heart that beats through all attacks."""
    with Heart() as found:
        yield found


@pytest.mark.parametrize(("language", "source", "code", "said"), ATTACKS)
def test_fault_52_an_attack_is_a_clear_failure_and_stops_no_heartbeat(
    heart: Heart, tmp_path: Path, language: str, source: str, code: str, said: str
) -> None:
    heart.gap = 0.0
    source = source.replace("FOLDER", str(tmp_path))

    with pytest.raises(NodeFailed) as failed:
        interpreters.run(language, interpreters.Code(source, {"a": 1}, 0.3 if code == "timeout" else 30.0, MEMORY))

    assert (failed.value.code, failed.value.retryable) == (code, False), str(failed.value)
    assert said in str(failed.value)
    assert heart.gap < HEARTBEAT_GAP_SECONDS
    assert not (tmp_path / "written").exists()


def test_programs_share_nothing() -> None:
    def run(language: str, source: str) -> Any:
        return interpreters.run(language, interpreters.Code(source, None, 30.0, MEMORY)).value

    assert run("javascript", "globalThis.kept = 1; Array.prototype.map = 2; 3") == 3
    assert run("javascript", "typeof kept + typeof [].map") == "undefinedfunction"
    assert run("python", "kept = 1") is None
    with pytest.raises(NodeFailed, match="kept"):
        run("python", "kept")


async def test_an_unknown_language_and_a_long_time_are_refused(code: Any) -> None:
    with pytest.raises(NodeInputError, match="python, javascript"):
        await code("ruby", "1")
    with pytest.raises(NodeInputError, match="the most is 60"):
        await code("python", "1", seconds=61)


async def test_code_does_not_run_while_it_is_off(env: TestEnvironment) -> None:
    with pytest.raises(NotAllowed, match="FLOWBUILDER_CODE_NODES=on") as refused:
        await env.run("code", Language="python", Code="1")

    assert refused.value.code == "not_allowed"


def definition(source: str = "1") -> dict[str, Any]:
    """Return the JSON of a workflow with one code node."""
    return graph([node("mine", "code", Language="python", Code=source)])


def test_a_workflow_with_code_is_invalid_while_it_is_off() -> None:
    parsed = Definition.from_json(definition())

    (finding,) = validate(parsed)

    assert (finding.code, finding.severity, finding.node_id) == ("SWITCHED_OFF", "error", "mine")
    assert "FLOWBUILDER_CODE_NODES=on" in finding.hint
    assert validate(parsed, limits=Limits(switches=frozenset({"FLOWBUILDER_CODE_NODES"}))) == []


def test_activation_asks_the_setting(db: None, make_workflow: Any, settings: Any) -> None:
    from workflows.lifecycle import activate

    workflow = make_workflow(definition(), status="draft")
    with pytest.raises(ActivationRefused, match="FLOWBUILDER_CODE_NODES"):
        activate(workflow)

    settings.CODE_NODES = True
    assert activate(workflow) == []


@pytest.mark.worker
@pytest.mark.redis
def test_code_runs_in_the_isolated_worker_within_its_limits(processes: Any, alice: Any, make_workflow: Any) -> None:
    processes.worker(APP)
    worker = processes.start(
        "-m", "celery", "-A", APP, "worker", "--pool=prefork", "-c", "2", "-Q", "isolated", "--without-gossip",
        "--without-mingle", FLOWBUILDER_CODE_NODES="on", FLOWBUILDER_ISOLATED_MEMORY_MB="160",
    )  # fmt: skip
    go_on = {"on_error": "continue"}
    bomb = "x = []\nwhile True: x.append('a' * 1000000)"
    js_bomb = "let x = []; while (true) x.push('a'.repeat(1e6) + x.length)"
    workflow = make_workflow(
        graph(
            [
                node("rows", "code", Language="python", Code="[{'n': n} for n in range(3)]"),
                node("sum", "code", Language="javascript", Code="data.reduce((sum, row) => sum + row.n, 0)"),
                node("loop", "code", go_on, Language="python", Code="while True: pass", **{"Timeout (seconds)": 0.5}),
                node("bomb", "code", go_on, Language="python", Code=bomb),
                node("jsbomb", "code", go_on, Language="javascript", Code=js_bomb),
                node("file", "code", go_on, Language="python", Code="open('/etc/passwd')"),
            ],
            wire("rows", "Result", "sum", "Data"),
        )
    )

    execution = wait_until_ended(start_execution(workflow, by=alice), 40, processes.logs)

    assert execution.status == "completed_with_errors", processes.logs()
    assert outputs(execution, "sum")["Result"] == 3
    codes = dict(execution.node_runs.exclude(error_code="").values_list("node_id", "error_code"))
    assert codes == {"loop": "timeout", "bomb": "resource", "jsbomb": "resource", "file": "code"}
    assert set(execution.node_runs.values_list("deliveries", flat=True)) == {1}
    assert worker.poll() is None
