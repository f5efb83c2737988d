"""Every process says how full its machine is, and no disk keeps it from saying that it lives."""

from __future__ import annotations

import os
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest

from executions import machine
from executions.machine import Fullness, Gauge
from executions.models import WorkerLease
from tests.conftest import wait_for


def test_disk_and_memory_are_those_of_this_machine(tmp_path: Path) -> None:
    found, disk = machine.look(tmp_path), shutil.disk_usage(tmp_path)

    assert found.disk_percent == pytest.approx(disk.used * 100 / (disk.used + disk.free), abs=5)
    assert found.memory_percent is not None
    assert 0 < found.memory_percent <= 100
    assert machine.look(tmp_path / "gone").disk_percent is None


def test_memory_of_a_container_is_counted_without_what_comes_back_at_once(tmp_path: Path) -> None:
    for name, content in {"max": "1000", "current": "900", "stat": "anon 600\ninactive_file 100\n"}.items():
        (tmp_path / f"memory.{name}").write_text(content)

    assert machine.memory_of_container(tmp_path) == 80
    (tmp_path / "memory.max").write_text("max")
    assert machine.memory_of_container(tmp_path) is None


def test_nobody_waits_for_a_disk_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hangs, looks = threading.Event(), []

    def look(folder: Path) -> Fullness:
        looks.append(folder)
        hangs.wait(100)
        return Fullness(50, 60)

    monkeypatch.setattr(machine, "look", look)
    gauge = Gauge()
    assert [gauge.read(tmp_path) for _ in range(3)] == [Fullness()] * 3
    wait_for(lambda: looks, 60, "the first look")
    assert len(looks) == 1, "a look begins when the one before it has ended"

    hangs.set()
    wait_for(lambda: gauge.read(tmp_path) == Fullness(50, 60), 60, "what was found")


@pytest.mark.worker
@pytest.mark.redis
def test_worker_and_scheduler_tell_how_full_their_machine_is(processes: Any, transactional_db: None) -> None:
    begun = [processes.worker(), processes.beat()]

    told = WorkerLease.objects.filter(disk_percent__gt=0, memory_percent__gt=0)
    wait_for(lambda: told.count() == 2, 60, "both to tell", processes.logs)
    assert set(told.values_list("hostname", flat=True)) == {os.uname().nodename}
    assert set(told.values_list("pid", flat=True)) == {process.pid for process in begun}
