"""The demo site and the example workflows."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from flowbuilder.demo.site import PRODUCTS, DemoSite, Ledger
from workflows.definition import Definition
from workflows.transfer import examples
from workflows.validation import validate

ROOT = Path(__file__).parent.parent.parent


def client(ledger: Ledger) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=DemoSite(ledger)), base_url="http://shop")


async def test_the_shop_is_behind_its_login() -> None:
    async with client(Ledger()) as browser:
        shop = await browser.get("/shop")
        products = await browser.get("/api/products")
        wrong = await browser.post("/login", data={"username": "demo", "password": "wrong"})
        forged = await browser.get("/api/products", headers={"Cookie": "session=made-up"})

    assert (shop.status_code, shop.headers["location"]) == (303, "/login")
    assert products.status_code == forged.status_code == 401
    assert wrong.status_code == 403
    assert "wrong" in wrong.text


async def test_after_the_login_the_products_are_there_cheapest_first() -> None:
    async with client(Ledger()) as browser:
        login = await browser.post("/login", data={"username": "demo", "password": "demo-password"})
        shop = await browser.get("/shop")
        products = (await browser.get("/api/products")).json()["products"]

    assert (login.status_code, login.headers["location"]) == (303, "/shop")
    assert "HttpOnly" in login.headers["set-cookie"]
    assert not any(product["name"] in shop.text for product in PRODUCTS), "the list must come from the script"
    assert [product["price"] for product in products] == sorted(product["price"] for product in PRODUCTS)


async def test_the_sink_lists_what_it_got_and_filters_by_execution(tmp_path: Path) -> None:
    async with client(Ledger(str(tmp_path / "a" / "ledger.jsonl"))) as sender:
        for key in ("e1:deal:0", "e2:deal:0"):
            await sender.post("/sink", json={"n": key}, headers={"Idempotency-Key": key, "Authorization": "Bearer x"})
        every = (await sender.get("/sink")).json()
        one = (await sender.get("/sink", params={"execution": "e2"})).json()

    assert [entry["body"]["n"] for entry in every] == ["e1:deal:0", "e2:deal:0"]
    assert [entry["headers"]["idempotency-key"] for entry in one] == ["e2:deal:0"]
    assert "authorization" not in every[0]["headers"]


async def test_a_torn_last_line_does_not_spoil_the_ledger(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    ledger = Ledger(str(path))
    await ledger.append({"headers": {}, "body": 1})
    with path.open("ab") as file:
        file.write(b'{"headers": {}, "bo')
    await ledger.append({"headers": {}, "body": 2})

    assert [entry["body"] for entry in await ledger.entries()] == [1, 2]


async def test_a_body_over_the_limit_is_refused_and_not_stored() -> None:
    async with client(Ledger()) as sender:
        answer = await sender.post("/sink", content=b"x" * (1024 * 1024 + 1))
        stored = (await sender.get("/sink")).json()

    assert (answer.status_code, stored) == (413, [])


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], str, Path]]:
    """The site as the supervisor starts it, in a process of its own."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    ledger = tmp_path / "ledger.jsonl"
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "uvicorn",
            "--port",
            str(port),
            "--log-level",
            "error",
            "flowbuilder.demo.site:application",
        ],
        cwd=ROOT,
        env={**os.environ, "FLOWBUILDER_DEMO_LEDGER": str(ledger)},
    )
    url = f"http://127.0.0.1:{port}"
    end = time.monotonic() + 60
    while True:
        try:
            httpx.get(url + "/login", timeout=2)
            break
        except httpx.TransportError:
            assert process.poll() is None, "the site ended"
            assert time.monotonic() < end, "the site did not start"
            time.sleep(0.05)
    yield process, url, ledger
    process.kill()
    process.wait()


async def test_what_the_sink_acknowledged_survives_a_kill(served: tuple[subprocess.Popen[bytes], str, Path]) -> None:
    process, url, ledger = served
    acknowledged: list[int] = []

    async def send() -> None:
        async with httpx.AsyncClient() as sender:
            for number in range(10_000):
                try:
                    answer = await sender.post(f"{url}/sink", json=number)
                except httpx.TransportError:
                    return
                if answer.status_code == 200:
                    acknowledged.append(number)

    sending = asyncio.create_task(send())
    async with asyncio.timeout(60):
        while len(acknowledged) <= 10:
            await asyncio.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    await sending

    stored = [entry["body"] for entry in await Ledger(str(ledger)).entries()]
    assert len(acknowledged) > 10
    assert stored[: len(acknowledged)] == acknowledged


# ------------------------------------------------------------------ the example workflows


@pytest.mark.row("S2-54")
@pytest.mark.parametrize("name", sorted(examples()))
def test_every_example_is_a_valid_workflow(name: str) -> None:
    data: dict[str, Any] = examples()[name]

    findings = validate(Definition.from_json(data), credentials=["admin-login"])

    assert (data["name"], data["status"]) == (name, "active")
    assert data["description"]
    assert [finding.message for finding in findings] == []
