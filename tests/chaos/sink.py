"""The effect ledger: an HTTP receiver that honours idempotency keys and survives every kill.

A process of its own. Every arrival is one line of an append-only file that is on the disk before the answer
goes out. The first arrival of a key is *accepted*; a repeat gets the same answer and is noted as a repeat. So
the promise that can be checked is: at least once on the wire, once at a receiver that honours the key.

    POST /effect                 200
    POST /effect?slow=0.4        200 after 0.4 s, so that a kill falls between the effect and its commit
    POST /effect?refuse=2        503 to the first two arrivals of a key, then 200
    POST /effect?status=500      500 to everybody; nothing is accepted
    GET  /...                    the files of ``tests/site``
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from flowbuilder.stack import die_with_parent

ROOT = Path(__file__).resolve().parents[2]
ACCEPTED, REPEATED, REFUSED = "accepted", "repeated", "refused"


@dataclass(frozen=True, slots=True)
class Arrival:
    """One request: its key, what became of it, its body, and when it came (microseconds since the epoch)."""

    key: str
    result: str
    body: str
    at: int


class Ledger:
    """The file of a sink. Reading it needs no running sink."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def arrivals(self) -> list[Arrival]:
        """Return all arrivals in order; a last line that a kill cut off was never answered and does not count."""
        if not self.path.exists():
            return []
        lines = self.path.read_text().split("\n")[:-1]
        return [Arrival(**json.loads(line)) for line in lines]

    def by_key(self) -> dict[str, list[Arrival]]:
        """Return the arrivals of each key in order."""
        found: dict[str, list[Arrival]] = {}
        for arrival in self.arrivals():
            found.setdefault(arrival.key, []).append(arrival)
        return found

    def accepted(self) -> Counter[str]:
        """Return how often each key was accepted; more than once would be a fault of the sink itself."""
        return Counter(arrival.key for arrival in self.arrivals() if arrival.result == ACCEPTED)

    def repeats(self) -> int:
        """Return how many arrivals repeated an accepted key."""
        return sum(arrival.result == REPEATED for arrival in self.arrivals())


class Sink:
    """A running sink. ``url`` is its address, ``ledger`` what arrived."""

    def __init__(self, path: Path) -> None:
        self.ledger = Ledger(path)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.sink", str(path)],
            cwd=ROOT, stdout=subprocess.PIPE, preexec_fn=die_with_parent(),
            env={name: value for name, value in os.environ.items() if not name.startswith("FLOWBUILDER_")},
        )  # fmt: skip
        assert self._process.stdout is not None
        port = self._process.stdout.readline().strip()
        if not port:
            raise RuntimeError(f"the sink did not start, exit status {self._process.wait()}")
        self.url = f"http://127.0.0.1:{int(port)}"

    def stop(self) -> None:
        """End the process; the ledger stays."""
        self._process.kill()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()


@contextmanager
def running_sink(path: Path) -> Iterator[Sink]:
    """Give a sink that writes to ``path`` and lives as long as the block."""
    sink = Sink(path)
    try:
        yield sink
    finally:
        sink.stop()


class _Book:
    """What the sink process knows: the file, the keys that were accepted, and how often others were refused."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        self._accepted: set[str] = set()
        self._refused: Counter[str] = Counter()
        for arrival in Ledger(path).arrivals():
            self._note(arrival)
        self._file = path.open("ab")
        whole = path.read_bytes().rfind(b"\n") + 1
        self._file.truncate(whole)  # a line that a kill cut off

    def enter(self, key: str, body: str, refuse: int, status: int) -> int:
        """Write one arrival down and return the status to answer with."""
        with self._lock:
            if status != 200 or (key not in self._accepted and self._refused[key] < refuse):
                result = REFUSED
            else:
                result = REPEATED if key in self._accepted else ACCEPTED
            arrival = Arrival(key, result, body, time.time_ns() // 1000)
            self._file.write(json.dumps(asdict(arrival)).encode() + b"\n")
            self._file.flush()
            os.fsync(self._file.fileno())
            self._note(arrival)
        return status if status != 200 else 503 if result == REFUSED else 200

    def _note(self, arrival: Arrival) -> None:
        if arrival.result == ACCEPTED:
            self._accepted.add(arrival.key)
        elif arrival.result == REFUSED:
            self._refused[arrival.key] += 1


class _Handler(SimpleHTTPRequestHandler):
    def __init__(self, book: _Book, *args: Any, **kwargs: Any) -> None:
        self._book = book
        super().__init__(*args, directory=str(ROOT / "tests" / "site"), **kwargs)

    def do_POST(self) -> None:
        """Take an effect."""
        length = int(self.headers.get("Content-Length") or 0)
        content = self.rfile.read(length)
        if len(content) < length:  # its sender was killed; nobody takes half a request
            self.close_connection = True
            return
        body = content.decode(errors="replace")
        wish = {name: values[-1] for name, values in parse_qs(urlsplit(self.path).query).items()}
        key = self.headers.get("Idempotency-Key") or "(no key)"
        status = self._book.enter(key, body, int(wish.get("refuse", 0)), int(wish.get("status", 200)))
        time.sleep(float(wish.get("slow", 0)))
        answer = json.dumps({"key": key, "ok": status == 200}).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing; the ledger has it all."""


class _Server(ThreadingHTTPServer):
    request_queue_size = 256
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Callers are killed in the middle of an answer all the time."""


def main() -> None:
    """Serve on a free loopback port and print its number."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("ledger", type=Path)
    server = _Server(("127.0.0.1", 0), partial(_Handler, _Book(parser.parse_args().ledger)))
    print(server.server_port, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
