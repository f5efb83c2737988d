"""The Celery application outlives its broker."""

from __future__ import annotations

from typing import Any

import pytest

from flowbuilder.celery import app


@pytest.mark.redis
def test_a_channel_whose_connection_was_closed_gives_an_error_that_the_worker_survives():
    connection = app.connection_for_read()
    channel: Any = connection.default_channel
    connection._do_close_transport()  # as when Redis went away

    for touch in (lambda: channel.qos.ack("tag"), channel.qos.restore_unacked):
        with pytest.raises(connection.recoverable_connection_errors):
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
