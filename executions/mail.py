"""Mail by SMTP that goes only where nodes may go: the address that was judged is the one that is dialled."""

from __future__ import annotations

import asyncio
import contextlib
import smtplib
import socket
import ssl
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from email.message import EmailMessage
from typing import Literal

from executions.egress import EgressPolicy
from executions.errors import NetworkError, NodeFailed

Security = Literal["ssl", "starttls", "none"]


@dataclass(frozen=True, slots=True)
class MailServer:
    """Where mail is handed in. ``timeout_s`` bounds each step of the talk with it, ``limit_s`` the whole talk."""

    host: str
    port: int = 587
    username: str = ""
    password: str = field(default="", repr=False)
    security: Security = "starttls"
    timeout_s: float = 30.0
    limit_s: float = 150.0


async def send(
    policy: EgressPolicy | None, server: MailServer, message: EmailMessage, sender: str, recipients: Sequence[str]
) -> dict[str, str]:
    """Do the same as ``hand_in`` without blocking the event loop; takes a thread while it talks."""
    return await asyncio.to_thread(hand_in, policy, server, message, sender, recipients)


class _Cutoff:
    """Cuts a connection when its time is over, however slowly the other side goes on talking."""

    def __init__(self, seconds: float) -> None:
        self.over = False
        self._lock = threading.Lock()
        self._line: socket.socket | None = None
        self._timer = threading.Timer(seconds, self._cut)
        self._timer.daemon = True

    def __enter__(self) -> _Cutoff:
        self._timer.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._timer.cancel()
        with self._lock:
            if self._line is not None:
                self._line.close()
                self._line = None

    def watch(self, line: socket.socket) -> socket.socket:
        """Return ``line``, which is cut when the time is over, whatever wraps it until then."""
        with self._lock:
            if self._line is not None:
                self._line.close()
            self._line = line.dup()
        if self.over:
            self._cut()
        return line

    def _cut(self) -> None:
        self.over = True
        with self._lock, contextlib.suppress(OSError):
            if self._line is not None:
                self._line.shutdown(socket.SHUT_RDWR)


class _Guarded(smtplib.SMTP):
    """Dials the judged address; the name that TLS checks stays that of the server."""

    def __init__(self, policy: EgressPolicy | None, server: MailServer, cutoff: _Cutoff) -> None:
        self._policy, self._cutoff = policy, cutoff
        super().__init__(server.host, server.port, _own_name(), server.timeout_s)

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        return self._cutoff.watch(_dial(self._policy, host, port, timeout))


class _GuardedSSL(smtplib.SMTP_SSL):
    """The same for servers that speak TLS from the first byte."""

    def __init__(self, policy: EgressPolicy | None, server: MailServer, cutoff: _Cutoff) -> None:
        self._policy, self._cutoff = policy, cutoff
        self._name, self._tls = server.host, ssl.create_default_context()
        super().__init__(server.host, server.port, _own_name(), timeout=server.timeout_s, context=self._tls)

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        line = self._cutoff.watch(_dial(self._policy, host, port, timeout))
        return self._tls.wrap_socket(line, server_hostname=self._name)


def _dial(policy: EgressPolicy | None, host: str, port: int, timeout: float) -> socket.socket:
    addresses = [host] if policy is None else policy.check(host, port).addresses
    failure: OSError | None = None
    for address in addresses:
        try:
            return socket.create_connection((address, port), timeout)
        except OSError as error:
            failure = error
    raise failure or OSError(f"{host} has no address")


def hand_in(
    policy: EgressPolicy | None, server: MailServer, message: EmailMessage, sender: str, recipients: Sequence[str]
) -> dict[str, str]:
    """Hand in ``message`` and return the recipients that the server refused, with its reasons.

    Without a ``policy`` every address may be dialled.

    Raises:
        NotAllowed: nodes may not reach the server.
        NetworkError: it could not be reached, took longer than ``limit_s``, or asks to come again later.
        NodeFailed: it refused the login (``mail_auth``), the encryption (``mail_tls``) or the mail (``mail_refused``).
    """
    with _Cutoff(server.limit_s) as cutoff:
        try:
            return _talk(policy, server, message, sender, recipients, cutoff)
        except NodeFailed as error:
            if not cutoff.over:
                raise
            where = f"the mail server {server.host}:{server.port}"
            raise NetworkError(f"{where} did not take the mail within {server.limit_s:g} s") from error


def _talk(
    policy: EgressPolicy | None, server: MailServer, message: EmailMessage, sender: str, recipients: Sequence[str],
    cutoff: _Cutoff,
) -> dict[str, str]:  # fmt: skip
    where = f"the mail server {server.host}:{server.port}"
    try:
        with _connect(policy, server, cutoff) as client:
            if server.username:
                client.login(server.username, server.password)
            return _reasons(client.send_message(message, sender, recipients))
    except smtplib.SMTPAuthenticationError as error:
        raise NodeFailed(
            f'{where} refused the login of "{server.username}": {_text(error.smtp_error)}',
            code="mail_auth", retryable=False,
        ) from None  # fmt: skip  # what the server said may repeat the password
    except smtplib.SMTPRecipientsRefused as error:
        reasons = _reasons(error.recipients)
        for_now = all(code < 500 for code, _ in error.recipients.values())
        raise _refused(f"{where} takes mail for none of them: {_joined(reasons)}", for_now) from error
    except smtplib.SMTPNotSupportedError as error:
        raise NodeFailed(f"{where} cannot do what is asked of it: {error}", code="mail_tls", retryable=False) from error
    except smtplib.SMTPResponseException as error:
        text = f"{where} answered {error.smtp_code}: {_text(error.smtp_error)}"
        raise _refused(text, 400 <= error.smtp_code < 500) from error
    except ssl.SSLError as error:
        reason = getattr(error, "verify_message", "") or error.reason or error
        raise NodeFailed(f"{where} could not be trusted: {reason}", code="mail_tls", retryable=False) from error
    except (smtplib.SMTPException, OSError) as error:
        raise NetworkError(f"{where} could not be reached: {str(error) or type(error).__name__}") from error


def _connect(policy: EgressPolicy | None, server: MailServer, cutoff: _Cutoff) -> smtplib.SMTP:
    if server.security == "ssl":
        return _GuardedSSL(policy, server, cutoff)
    client = _Guarded(policy, server, cutoff)
    if server.security == "starttls":
        try:
            client.starttls(context=ssl.create_default_context())
        except BaseException:
            client.close()
            raise
    return client


def _own_name() -> str:
    name = socket.gethostname()
    return name if "." in name else "[127.0.0.1]"


def _refused(text: str, for_now: bool) -> NodeFailed:
    return (
        NetworkError(text, code="mail_refused") if for_now else NodeFailed(text, code="mail_refused", retryable=False)
    )


def _reasons(refused: Mapping[str, tuple[int, bytes]]) -> dict[str, str]:
    return {address: f"{code} {_text(reason)}" for address, (code, reason) in refused.items()}


def _joined(reasons: Mapping[str, str]) -> str:
    return "; ".join(f"{address}: {reason}" for address, reason in reasons.items())


def _text(reason: bytes | str) -> str:
    text = reason.decode("utf-8", "replace") if isinstance(reason, bytes) else reason
    return " ".join(text.split())[:300]
