"""The Celery application outlives its broker."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kombu
import pytest
from redis import Redis

from flowbuilder.celery import app
from tests.conftest import wait_for
from tests.environment import RedisServer


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[Any]:
    """Return a client of a Redis that serves nothing else."""
    server = RedisServer(tmp_path / "redis.sock")
    server.start()
    yield Redis(unix_socket_path=str(server.socket))
    server.kill()


def fill(client: Any) -> None:
    client.set("ballast", b"x" * 4_000_000)
    client.config_set("maxmemory", 2_000_000)
    client.config_set("maxmemory-policy", "noeviction")


def fail_to_save(client: Any) -> None:
    client.config_set("save", "3600 1")
    client.config_set("dbfilename", "taken")
    Path(client.config_get("dir")["dir"], "taken", "inside").mkdir(parents=True)
    client.bgsave()
    wait_for(lambda: client.info("persistence")["rdb_last_bgsave_status"] == "err", 60, "a failed save")


def follow(client: Any) -> None:
    client.replicaof("127.0.0.1", 1)


@pytest.mark.redis
def test_a_channel_whose_connection_was_closed_gives_an_error_that_the_worker_survives():
    connection = app.connection_for_read()
    channel: Any = connection.default_channel
    connection._do_close_transport()  # as when Redis went away

    for touch in (lambda: channel.qos.ack("tag"), channel.qos.restore_unacked):
        with pytest.raises(connection.recoverable_connection_errors):
            touch()


@pytest.mark.redis
@pytest.mark.parametrize("refuse", [fill, fail_to_save, follow])
def test_a_redis_that_refuses_to_write_gives_an_error_that_the_worker_survives(own_redis, refuse):
    path = own_redis.get_connection_kwargs()["path"]
    connection = app.connection_for_read(f"redis+socket://{path}")
    channel: Any = connection.default_channel
    queue = kombu.Queue("things", kombu.Exchange("things"), routing_key="things")(channel)
    message = channel.Message(
        {"properties": {"delivery_tag": "1", "delivery_info": {"exchange": "", "routing_key": ""}}, "body": ""}, channel
    )
    refuse(own_redis)

    for touch in (
        queue.declare,
        lambda: channel.qos.append(message, "1"),
        lambda: channel._put("things", message.properties),
    ):
        with pytest.raises(connection.connection_errors):
            touch()


def test_a_broker_that_was_away_for_long_is_looked_for_every_few_seconds(monkeypatch):
    monkeypatch.setattr("kombu.utils.functional.sleep", lambda seconds: None)
    pauses: list[float] = []
    connection = app.connection_for_read("redis://127.0.0.1:1/0")
    assert not app.conf.broker_connection_max_retries, "a worker would end when the broker is away for long"

    with pytest.raises(connection.recoverable_connection_errors):
        connection.ensure_connection(lambda error, pause: pauses.append(pause), 50, reraise_as_library_errors=False)

    assert len(pauses) == 50
    assert min(pauses) >= 1
    assert max(pauses) <= 3
