"""Whether the vendors of a configuration can be reached, take our keys and agree with our clock."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from enum import StrEnum
from urllib.parse import urlencode

from dujiang import __version__
from dujiang.clock import MILLISECOND, SECOND, Clock
from dujiang.config import Config
from dujiang.config.schema import CredentialSection, VendorSection
from dujiang.server.cli.language import say
from dujiang.vendors.deployments import VendorLink
from dujiang.vendors.http_client import HttpClient, HttpResponse, Timeouts
from dujiang.vendors.http_connection import HttpConnection
from dujiang.vendors.transport_errors import ConnectTimeout, TransportError

_OFFSET_MAX_S = 2.0
"""A clock that is further off turns day windows early or late, and misreads waits given as a date."""
_DATE_STEP_S = 1.0


class State(StrEnum):
    """How a check ended."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found, and what to do about it."""

    state: State
    subject: str
    found: str
    remedy: str = ""


async def check_vendors(config: Config, clock: Clock, timeout_ns: int) -> list[Finding]:
    """Return what was found of every vendor and credential, in the order of the configuration."""
    client = HttpClient(clock)
    timeouts = Timeouts(timeout_ns, timeout_ns, timeout_ns, timeout_ns)
    try:
        async with asyncio.TaskGroup() as checks:
            running = [
                checks.create_task(_check_vendor(client, clock, timeouts, name, vendor))
                for name, vendor in config.vendors.items()
            ]
    finally:
        client.close()
    return [finding for check in running for finding in check.result()]


async def _check_vendor(
    client: HttpClient, clock: Clock, timeouts: Timeouts, name: str, vendor: VendorSection
) -> list[Finding]:
    try:
        link = VendorLink(name, vendor)
    except (ValueError, OSError) as error:
        return [Finding(State.FAIL, name, str(error), say("see_validate"))]
    origin = link.origin
    place = f"{origin.host}:{origin.port}"
    begun = clock.now()
    try:
        connection = await client.connect(origin, timeouts)
    except TransportError as error:
        through = say("through_proxy") if origin.proxy is not None else ""
        found = say("unreachable", place=place, reason=_reason(error)) + through
        return [Finding(State.FAIL, name, found, _connect_remedy(error, name, vendor))]
    took_ms = (clock.now() - begun) / MILLISECOND
    kind = "TLS" if origin.tls is not None else "TCP"
    findings = [Finding(State.OK, name, say("connected", place=place, kind=kind, ms=f"{took_ms:.0f}"))]
    clocks: list[Finding] = []
    spare: HttpConnection | None = connection
    for credential in vendor.credentials:
        subject = f"{name}/{credential.name}"
        request = _models_request(link, vendor, credential)
        if request is None:
            findings.append(Finding(State.WARN, subject, say("no_models_path"), say("no_models_path_remedy")))
            continue
        try:
            taken, spare = spare or await client.connect(origin, timeouts), None
            exchange = await _exchange(client.begin(origin, taken, request, timeouts), clock)
        except TransportError as error:
            findings.append(Finding(State.FAIL, subject, say("no_answer", reason=error), say("no_answer_remedy")))
            continue
        findings.append(_key_finding(subject, exchange.status, exchange.took_ms))
        clocks = clocks or list(_clock_finding(name, exchange))
    if spare is not None:
        spare.abort()
    return findings + clocks


@dataclass(frozen=True, slots=True)
class _Exchange:
    """What an answer tells of the vendor, and when by our clock it was asked for and came."""

    status: int
    date: str | None
    took_ms: float
    sent_wall_s: float
    arrived_wall_s: float


async def _exchange(response: HttpResponse, clock: Clock) -> _Exchange:
    """Read an answer whose request has just been sent; raises TransportError."""
    begun, sent = clock.now(), clock.wall()
    await response.head()
    arrived = clock.wall()
    took_ns = (response.first_byte_at or clock.now()) - begun
    date = next((value.decode("latin-1") for name, value in response.headers if name == b"date"), None)
    status = response.status
    await response.whole()
    return _Exchange(status, date, took_ns / MILLISECOND, sent / SECOND, arrived / SECOND)


def _models_request(link: VendorLink, vendor: VendorSection, credential: CredentialSection) -> tuple[bytes, ...] | None:
    """Return a request that needs a valid key and costs nothing; None where the profile knows none."""
    face = link.face(vendor)
    path = face.paths.models
    if path is None:
        return None
    query = f"?{urlencode(face.query)}" if face.query else ""
    lines = [
        f"GET {link.origin.absolute_prefix.decode()}{link.path}{path}{query} HTTP/1.1",
        f"host: {link.origin.authority}",
        f"{face.auth.header}: {face.auth.value(credential.key.get_secret_value())}",
        "accept: application/json",
        "accept-encoding: identity",
        f"user-agent: dujiang/{__version__}",
        *(f"{name.lower()}: {value}" for name, value in face.headers.items()),
    ]
    head = "".join(f"{line}\r\n" for line in lines if "\r" not in line and "\n" not in line)
    proxy = link.origin.proxy_authorization if link.origin.absolute_prefix else b""
    return (head.encode() + proxy + b"\r\n",)


def _key_finding(subject: str, status: int, rtt_ms: float) -> Finding:
    rtt = f"{rtt_ms:.0f}"
    if 200 <= status < 300:
        return Finding(State.OK, subject, say("key_valid", ms=rtt))
    if status in (401, 403):
        return Finding(State.FAIL, subject, say("key_refused", status=status), say("key_refused_remedy"))
    if status == 429:
        return Finding(State.WARN, subject, say("key_limited", ms=rtt), say("key_limited_remedy"))
    if status >= 500:
        return Finding(State.WARN, subject, say("vendor_trouble", status=status), say("vendor_trouble_remedy"))
    return Finding(State.WARN, subject, say("key_unknown", status=status), say("key_unknown_remedy"))


def _clock_finding(name: str, exchange: _Exchange) -> Iterator[Finding]:
    """Compare clocks. The vendor wrote its date, cut to whole seconds, between our sending and its arrival."""
    if exchange.date is None:
        return
    try:
        date_s = parsedate_to_datetime(exchange.date).timestamp()
    except ValueError:
        return
    ahead_s = exchange.sent_wall_s - (date_s + _DATE_STEP_S)
    behind_s = date_s - exchange.arrived_wall_s
    offset_s = ahead_s if ahead_s > 0 else -behind_s if behind_s > 0 else 0.0
    subject = say("clock_of", vendor=name)
    if abs(offset_s) <= _OFFSET_MAX_S:
        yield Finding(State.OK, subject, say("clock_agrees"))
        return
    word = "clock_ahead" if offset_s > 0 else "clock_behind"
    yield Finding(State.WARN, subject, say(word, seconds=f"{abs(offset_s):.0f}"), say("clock_remedy"))


def _causes(error: BaseException) -> Iterable[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__


def _reason(error: TransportError) -> str:
    """Return the innermost thing the system said, else what we say."""
    if isinstance(error, ConnectTimeout):
        return say("in_no_time")
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return cause.verify_message
        if isinstance(cause, OSError):
            # asyncio writes the address into strerror; what the number means is shorter. A gaierror's is negative.
            number = cause.errno or 0
            return os.strerror(number) if number > 0 else cause.strerror or str(cause)
    return str(error)


def _connect_remedy(error: TransportError, name: str, vendor: VendorSection) -> str:
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLError):
            return say("remedy_tls", vendor=name)
        if isinstance(cause, socket.gaierror):
            return say("remedy_name", vendor=name)
    return say("remedy_proxy" if vendor.proxy else "remedy_connect", vendor=name)
