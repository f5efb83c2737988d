"""People, workflows and real processes that tests share."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import cache, partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from django.conf import settings
from django.contrib.auth.hashers import make_password
from django.db import connection, transaction
from django.test import TransactionTestCase

from tests.environment import HOME, ROOT

WORKER = (
    "worker", "--pool=threads", "-c", "8", "-Q", "control,default,browser", "-l", "INFO",
    "--without-gossip", "--without-mingle",
)  # fmt: skip


# Examples are the same in every run and take the time that they take: what fails is a change, not the day or the machine.
# ``--hypothesis-profile=default`` looks for new ones.
hypothesis.settings.register_profile(
    "steady", deadline=None, derandomize=True, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("steady")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="also run the tests that take minutes")


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Return one more than twice the number of processors: most of the time of a test is waiting for a process."""
    return 2 * (os.cpu_count() or 1) + 1


SHARED = ("tests/e2e/",)
"""Folders whose files are looked at on one running product: to start it takes as long as several tests."""


def _unit(nodeid: str) -> str:
    """Return what one process of a parallel run gets as a whole: a file, or a folder that shares a product."""
    return next((folder for folder in SHARED if nodeid.startswith(folder)), nodeid.partition("::")[0])


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give each process whole units with ``--dist loadfile``."""
    if config.getvalue("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    class ByUnit(LoadFileScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            return _unit(nodeid)

    return ByUnit(config, log)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """With ``-m postgres``, do not even load the files that do not know this mark: five of seven, in every process."""
    if config.option.markexpr != "postgres" or not collection_path.match("test_*.py"):
        return None
    return "postgres" not in collection_path.read_text() or None


@pytest.hookimpl(trylast=True)  # of what -m leaves
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip what is slow; in parallel, begin with what takes longest, so that none of that is left for the end."""
    if hasattr(config, "workerinput"):
        seconds: defaultdict[str, float] = defaultdict(float)
        for item in items:
            seconds[_unit(item.nodeid)] += _likely_seconds(item)
        items.sort(key=lambda item: -seconds[_unit(item.nodeid)])
        for item in items:
            item.add_marker(pytest.mark.flaky(reruns=2 if _races(item) else 1, reruns_delay=1))
    if config.getoption("--slow"):
        return
    for item in items:
        if item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.skip(reason="runs with --slow"))


def _races(item: pytest.Item) -> bool:
    """Return whether a test depends on how fast real processes are beside the other tests of a parallel run."""
    return any(item.get_closest_marker(name) for name in ("worker", "browser")) or "processes" in getattr(
        item, "fixturenames", ()
    )


def _likely_seconds(item: pytest.Item) -> float:
    """Return about how long a test takes: what starts processes takes seconds, what asks for time a fifth of that."""
    asked = item.get_closest_marker("timeout")
    if asked and not item.get_closest_marker("slow"):
        return float(asked.args[0]) / 5
    if item.get_closest_marker("worker") or "processes" in getattr(item, "fixturenames", ()):
        return 4
    return 2 if item.get_closest_marker("browser") else 0.1


P50_SECONDS, P99_SECONDS = 5.0, 20.0
"""How long half of all recoveries, and nearly all of them, may take."""
_recoveries: list[tuple[str, float]] = []
UNSTEADY_LIMIT = 3
"""How many tests of one run may pass only when they are tried again; one more is a failure of the run."""
_unsteady: dict[str, pytest.TestReport] = {}


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Collect how long recoveries took and which tests were tried again, from wherever they ran."""
    if str(report.outcome) == "rerun":  # what pytest-rerunfailures says, unknown to pytest's types
        _unsteady.setdefault(report.nodeid, report)
    if report.when == "call":
        _recoveries.extend(value for name, value in report.user_properties if name == "recovery")  # type: ignore[misc]


def _percentile(share: float) -> float:
    ordered = sorted(seconds for _, seconds in _recoveries)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail the run when recoveries miss the targets, where there are enough of them, or too many tests are unsteady."""
    late = len(_recoveries) >= 10 and (_percentile(0.5) > P50_SECONDS or _percentile(0.99) > P99_SECONDS)
    if (late or len(_unsteady) > UNSTEADY_LIMIT) and not hasattr(session.config, "workerinput"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print which tests had to be tried again, and why, and how long recoveries took."""
    if _unsteady:
        terminalreporter.section("UNSTEADY: these failed once beside the others; find out why")
        for report in _unsteady.values():
            terminalreporter.line(f"{report.nodeid} ({report.when})")
            terminalreporter.line(report.longreprtext)
        terminalreporter.line(f"{len(_unsteady)} tests were tried again (at most {UNSTEADY_LIMIT} may be)")
    if not _recoveries:
        return
    terminalreporter.section("recovery after faults")
    for what, seconds in _recoveries:
        terminalreporter.line(f"{seconds:6.1f} s  {what}")
    terminalreporter.line(
        f"{len(_recoveries)} recoveries: p50 {_percentile(0.5):.1f} s (at most {P50_SECONDS:g}), "
        f"p99 {_percentile(0.99):.1f} s (at most {P99_SECONDS:g})"
    )


@pytest.fixture(scope="session")
def django_db_modify_db_settings() -> None:
    """Keep the test database in a file, so that worker processes see it."""
    if connection.vendor == "sqlite":
        settings.DATABASES["default"]["TEST"]["NAME"] = str(HOME / "test.sqlite3")


@cache
def _tables() -> list[str]:
    kept = {"django_content_type", "auth_permission"}
    names = connection.introspection.django_table_names(only_existing=True, include_views=False)
    return [connection.ops.quote_name(name) for name in names if name not in kept]


def _delete_all_rows(case: TransactionTestCase) -> None:
    """Empty the database after a test with real transactions, but for what the models themselves are described by.

    Django's way takes hundreds of milliseconds: TRUNCATE makes new files for every table and index of PostgreSQL, and
    content types and permissions are made anew.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        for table in _tables():
            cursor.execute(f"DELETE FROM {table}")


TransactionTestCase._fixture_teardown = _delete_all_rows  # type: ignore[attr-defined]


@pytest.fixture(autouse=True)
def nothing_known() -> None:
    """Let no test see what the one before it left in the memory of this process for a second or three."""
    from executions import admission, reconcile
    from monitoring import health, tiles, views
    from workflows import credits, limits

    for known in (limits, credits, tiles.known, views._known):
        known.forget()
    admission._window, health._redis, reconcile._clock = admission._Window(), health._Redis(), None


@cache
def hashed(password: str) -> str:
    """Return the stored form of a password; hashing is slow on purpose, so each is hashed once a run."""
    return make_password(password)


@pytest.fixture
def alice(django_user_model: Any) -> Any:
    """The owner of everything; a superuser."""
    return django_user_model.objects.create(
        username="alice", email="alice@example.com", password=hashed("alice-password"), is_staff=True, is_superuser=True
    )


@pytest.fixture
def bob(django_user_model: Any) -> Any:
    """Somebody else, with access to the admin."""
    return django_user_model.objects.create(
        username="bob", email="bob@example.com", password=hashed("bob-password"), is_staff=True
    )


@pytest.fixture
def large_definitions(settings: Any) -> None:
    """Let this process store and start definitions of any size."""
    settings.MAX_NODES = settings.MAX_EDGES = 100_000
    settings.MAX_DEFINITION_BYTES = 100_000_000


@pytest.fixture
def make_workflow(alice: Any) -> Callable[..., Any]:
    """Return a function that stores an active workflow: ``make_workflow(definition, name=..., owner=...)``."""
    from workflows.models import Workflow

    def make(definition: dict[str, Any], name: str = "test", owner: Any = None, **fields: Any) -> Any:
        workflow = Workflow.objects.create(owner=owner or alice, name=name, **fields)
        workflow.save_version(definition, author=owner or alice)
        workflow.version, workflow.status = workflow.draft, Workflow.Status.ACTIVE
        workflow.save()
        return workflow

    return make


@pytest.fixture(scope="module")
def many_executions(django_db_setup: None, django_db_blocker: Any) -> Iterator[Any]:
    """Return a ``tests.many.Many``: 100,000 executions and what belongs to them, for the tests of one module.

    Costs about five seconds. Those tests must be plain ``django_db`` ones, which leave the rows as they are.
    """
    from tests import many

    with django_db_blocker.unblock():
        found = many.fill()
    yield found
    with django_db_blocker.unblock():
        many.remove()


def node(node_id: str, node_type: str, /, policy: dict[str, Any] | None = None, **inputs: Any) -> dict[str, Any]:
    """Return the JSON of a node; underscores in input names stand for blanks."""
    named = {key.replace("_", " "): value for key, value in inputs.items()}
    return {"id": node_id, "type": node_type, "position": {"x": 0, "y": 0}, "data": {"inputs": named, **(policy or {})}}


def wire(source: str, output: str, target: str, taken: str) -> dict[str, Any]:
    """Return the JSON of an edge."""
    return {
        "id": f"{source}.{output}-{target}.{taken}", "source": source, "target": target,
        "sourceHandle": output, "targetHandle": taken,
    }  # fmt: skip


def graph(nodes: list[dict[str, Any]], *edges: dict[str, Any]) -> dict[str, Any]:
    """Return the JSON of a workflow."""
    return {"nodes": nodes, "edges": list(edges)}


def test_environment() -> dict[str, str]:
    """Return the environment in which processes of this test run see its database and Redis."""
    env = {**os.environ, "PYTHONUNBUFFERED": "1"}
    if connection.vendor == "sqlite":
        env["DATABASE_URL"] = f"sqlite:///{connection.settings_dict['NAME']}"
    else:
        parts = connection.settings_dict
        env["DATABASE_URL"] = f"postgres://{parts['USER']}@/{parts['NAME']}?host={parts['OPTIONS']['host']}"
    return env


test_environment.__test__ = False  # type: ignore[attr-defined]


class Processes:
    """Real processes of the product on the test database, ended at the end of the test."""

    def __init__(self, log_dir: Path) -> None:
        self._children: list[subprocess.Popen[bytes]] = []
        self._log_dir = log_dir

    def start(self, *arguments: str, **env: str) -> subprocess.Popen[bytes]:
        """Start ``python arguments`` with extra environment variables."""
        with (self._log_dir / f"{len(self._children)}.log").open("wb") as log:
            child = subprocess.Popen(
                [sys.executable, *arguments], env={**test_environment(), **env}, cwd=ROOT, stdout=log, stderr=log
            )
        self._children.append(child)
        return child

    def worker(self, app: str = "flowbuilder", **env: str) -> subprocess.Popen[bytes]:
        """Start a worker and return it once it has written its lease."""
        from executions.models import WorkerLease

        child = self.booting_worker(app, **env)
        wait_for(lambda: WorkerLease.objects.filter(pid=child.pid).exists(), 60, "the worker's lease", self.logs)
        return child

    def booting_worker(self, app: str = "flowbuilder", **env: str) -> subprocess.Popen[bytes]:
        """Start a worker and return it at once."""
        return self.start("-m", "celery", "-A", app, *WORKER, **env)

    def beat(self, app: str = "flowbuilder", **env: str) -> subprocess.Popen[bytes]:
        """Start a beat."""
        return self.start("-m", "celery", "-A", app, "beat", "-l", "INFO", "--pidfile=", **env)

    def log(self, number: int) -> str:
        """Return all that the process which was started as this one (from 0) wrote."""
        return (self._log_dir / f"{number}.log").read_text(errors="replace")

    def logs(self) -> str:
        """Return what the processes wrote last."""
        return "\n".join(
            f"--- {path.name}\n{path.read_text(errors='replace')[-6000:]}"
            for path in sorted(self._log_dir.glob("*.log"))
        )

    def stop(self) -> None:
        """End what still runs."""
        for child in self._children:
            if child.poll() is None:
                child.send_signal(signal.SIGTERM)
        for child in self._children:
            try:
                child.wait(timeout=15)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()


@pytest.fixture
def processes(transactional_db: None, tmp_path: Path) -> Iterator[Processes]:
    """Return a starter of real workers and beats; the broker is emptied before and after."""
    flush_redis()
    found = Processes(tmp_path)
    yield found
    found.stop()
    flush_redis()


@pytest.fixture(scope="session")
def site_url() -> Iterator[str]:
    """Serve the static pages of ``tests/site`` on loopback and return the address."""
    handler = partial(_QuietHandler, directory=str(ROOT / "tests" / "site"))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


class _QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Keep the test output readable."""


def flush_redis() -> None:
    """Empty the Redis of this run."""
    import redis

    client = redis.Redis.from_url(settings.REDIS_URL)
    client.flushall()
    client.close()


@pytest.fixture
def rates(settings: Any) -> Iterator[Any]:
    """Return the settings, to set rates in; the buckets are empty before and after."""
    from flowbuilder import throttle

    url = settings.REDIS_URL
    flush_redis()
    throttle.silence = throttle._Silence()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(throttle, "REDIS_SECONDS", 30)  # who is not answered in time is let through
        throttle._client.cache_clear()
        yield settings
    throttle._client.cache_clear()
    settings.REDIS_URL, throttle.silence = url, throttle._Silence()
    flush_redis()


def wait_for(check: Callable[[], Any], seconds: float, what: str, detail: Callable[[], str] = lambda: "") -> Any:
    """Return the first true answer of ``check``; fail with ``what`` after ``seconds``."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        answer = check()
        if answer:
            return answer
        time.sleep(0.05)
    raise AssertionError(f"{what} did not come within {seconds} s\n{detail()}")


def wait_until_ended(execution: Any, seconds: float = 30, detail: Callable[[], str] = lambda: "") -> Any:
    """Return the execution once it has ended."""

    def ended() -> bool:
        execution.refresh_from_db()
        return bool(execution.is_terminal)

    wait_for(ended, seconds, f"the end of execution {execution.pk} ({execution.status})", detail)
    return execution


def statuses(execution: Any) -> dict[str, str]:
    """Return the status of every node run by node id."""
    return dict(execution.node_runs.values_list("node_id", "status"))


def outputs(execution: Any, node_id: str) -> Any:
    """Return the outputs of a node run."""
    from recordings.blobs import read_blob

    run = execution.node_runs.get(node_id=node_id)
    return json.loads(read_blob(run.outputs_blob) if run.outputs_blob else run.outputs)
