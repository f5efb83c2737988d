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
