"""Asks the gateway that runs what it is doing."""

from __future__ import annotations

import http.client
import ssl
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from dujiang.accounts.operator import operator_token
from dujiang.config import Config
from dujiang.server.cli.language import say
from dujiang.server.pepper import load_pepper
from dujiang.storage.sqlite import database_path

_ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}
_ANSWER_BYTES_MAX = 64 * 1024 * 1024


class NoStatus(Exception):
    """The gateway did not tell its status; the message says why and what to do."""


class Unreachable(NoStatus):
    """Nothing answers at the address."""


class Records(msgspec.Struct, frozen=True):
    """Records of calls: to be written, written, and lost to overload."""

    pending: int
    written: int
    dropped: int


class LimitState(msgspec.Struct, frozen=True):
    """A limit: how much of it is used, and how much of that is held by calls under way."""

    name: str
    scope: str
    dimension: str
    window_s: float | None
    limit: int
    used: int
    pending: int
    resets_in_s: float | None


class QueueState(msgspec.Struct, frozen=True):
    """Calls that wait for a model, by class."""

    model: str
    realtime: int
    interactive: int
    standard: int
    batch: int
    oldest_s: float


class DeploymentState(msgspec.Struct, frozen=True):
    """A deployment, and how long it is left alone yet."""

    name: str
    paused_s: float


class GatewayStatus(msgspec.Struct, frozen=True):
    """What a worker of the gateway is doing at one moment."""

    version: str
    started_at: int
    worker: int
    workers: int
    draining: bool
    in_flight: int
    waiting: int
    held: int
    connections: int
    records: Records
    limits: list[LimitState]
    queues: list[QueueState]
    deployments: list[DeploymentState]


def gateway_url(config: Config) -> str:
    """Return where the gateway of a configuration is found from this host."""
    host = _ANYWHERE.get(config.server.host, config.server.host)
    return f"http://[{host}]:{config.server.port}" if ":" in host else f"http://{host}:{config.server.port}"


def token_of(config: Config) -> str:
    """Return the operator's token of a configuration; raises NoStatus where nobody can know it."""
    if config.server.pepper is None:
        database = database_path(config.storage.url)
        if database == ":memory:":
            raise NoStatus(say("no_pepper_in_memory"))
        # Looking must leave nothing behind, so a pepper that is not there is not made.
        pepper = Path(database).with_suffix(".pepper")
        if not pepper.exists():
            raise NoStatus(say("no_pepper_yet", path=pepper))
    try:
        return operator_token(load_pepper(config))
    except OSError as error:
        raise NoStatus(say("pepper_unreadable", path=error.filename, reason=error.strerror)) from error


def ask_status(url: str, token: str, timeout_s: float) -> bytes:
    """Return the status as the gateway tells it, JSON; raises NoStatus."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise NoStatus(say("no_url", url=url))
    try:
        connection: http.client.HTTPConnection
        if parts.scheme == "https":
            context = ssl.create_default_context()
            connection = http.client.HTTPSConnection(parts.hostname, parts.port, timeout=timeout_s, context=context)
        else:
            connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=timeout_s)
        try:
            headers = {"authorization": f"Bearer {token}"}
            connection.request("GET", f"{parts.path.rstrip('/')}/admin/status", headers=headers)
            response = connection.getresponse()
            body = response.read(_ANSWER_BYTES_MAX)
        finally:
            connection.close()
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise Unreachable(say("nothing_answers", url=url, reason=reason)) from error
    if response.status == 200:
        return body
    if response.status in (401, 403):
        raise NoStatus(say("token_refused", url=url))
    raise NoStatus(say("no_status_there", url=url, status=response.status))


def read_status(body: bytes, url: str) -> GatewayStatus:
    """Return the status in an answer; raises NoStatus when it is none."""
    try:
        return msgspec.json.decode(body, type=GatewayStatus)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise NoStatus(say("not_a_status", url=url)) from error
