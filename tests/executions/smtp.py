"""A real mail server on loopback: with or without encryption and login, and with recipients that it does not take."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from email.message import EmailMessage
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, Envelope, LoginPassword
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


class Mailbox:
    """What a server took, and what it refuses: recipients by the beginning of their address, everything by ``busy``."""

    def __init__(self) -> None:
        self.envelopes: list[Envelope] = []
        self.busy = ""

    @property
    def messages(self) -> list[EmailMessage]:
        return [message_from_bytes(one.content, policy=policy.default) for one in self.envelopes]  # type: ignore[arg-type]

    async def handle_RCPT(self, server: Any, session: Any, envelope: Envelope, address: str, options: Any) -> str:
        if address.startswith("unknown"):
            return "550 5.1.1 no such mailbox"
        if address.startswith("full"):
            return "452 4.2.2 mailbox full"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Envelope) -> str:
        if self.busy:
            return self.busy
        self.envelopes.append(envelope)
        return "250 taken"


def login(server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
    """Let the shop in, and tell everybody else what they typed, as no server should."""
    assert isinstance(data, LoginPassword)
    right = (data.login, data.password) == (b"shop", b"s3cret-word")
    return AuthResult(success=right, handled=False, message=None if right else f"535 no: {data.password.decode()}")


def certificate(directory: Path) -> Path:
    """Write a certificate of 127.0.0.1 with its key into one file, and return it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = directory / "mail.pem"
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + made.public_bytes(serialization.Encoding.PEM)
    )
    return path


@contextmanager
def mail_server(directory: Path, security: str = "none", *, with_login: bool = False) -> Iterator[tuple[int, Mailbox]]:
    """Run a mail server; yield its port and what it takes."""
    box = Mailbox()
    options: dict[str, Any] = {"authenticator": login, "auth_required": True} if with_login else {}
    if security == "none":
        options |= {"auth_require_tls": False}
    else:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate(directory))
        options |= {"ssl_context": context} if security == "ssl" else {"tls_context": context, "require_starttls": True}
        if security == "ssl":
            options |= {"auth_require_tls": False}  # it knows of STARTTLS only
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    controller = Controller(box, hostname="127.0.0.1", port=port, **options)
    controller.start()
    try:
        yield port, box
    finally:
        controller.stop()


MakeServer = Callable[..., tuple[int, Mailbox]]
