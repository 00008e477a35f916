"""The strict simulated vendor: an ASGI application that answers as its spec says and refuses as it must."""

from __future__ import annotations

from collections.abc import MutableMapping
from random import Random
from typing import Any

import msgspec

from dujiang.clock import SECOND, Clock, SystemClock
from dujiang.simulation.account import Account, Refusal
from dujiang.simulation.anthropic_face import Messages
from dujiang.simulation.draws import chance
from dujiang.simulation.exchange import Answer, Ask, Face, Json, Refused
from dujiang.simulation.faults import Fault, FaultKind, FaultScript
from dujiang.simulation.generation import fingerprint, generate
from dujiang.simulation.models import describe_model, list_models
from dujiang.simulation.openai_chat_face import Chat
from dujiang.simulation.openai_embeddings_face import Embeddings
from dujiang.simulation.openai_responses_face import Responses
from dujiang.simulation.performance import JSON_TYPE, ClientGone, Headers, Performance, Receive, Send, respond
from dujiang.simulation.refusals import error_body, error_code, limit_headers, refusal_headers, refused_by
from dujiang.simulation.spec import VendorSpec
from dujiang.simulation.statistics import Statistics

Scope = MutableMapping[str, Any]
_HeaderMap = dict[bytes, bytes]

_DEFAULT_MODELS = ("simulated-large", "simulated-small")
_MOST_ACCOUNTS = 10_000
_LARGEST_BODY = 64 * 1024 * 1024
_ID_HEADERS = {"openai": b"x-request-id", "anthropic": b"request-id"}


class _VendorTime:
    """The vendor's own calendar, in nanoseconds since the epoch: it runs `scale` times as fast as ours."""

    def __init__(self, clock: Clock, spec: VendorSpec) -> None:
        self._clock = clock
        self._scale = spec.time_scale
        self._zero = clock.now()
        starts_at = spec.starts_at
        self.started_at: int = clock.wall() if starts_at is None else int(starts_at.timestamp()) * SECOND

    def now(self) -> int:
        elapsed = self._clock.now() - self._zero
        return self.started_at + (elapsed if self._scale == 1 else int(elapsed * self._scale))


class SimulatedVendor:
    """A vendor with true limits: `app` is its ASGI application, `statistics()` what it saw."""

    def __init__(self, spec: VendorSpec, clock: Clock) -> None:
        self.spec = spec
        self._clock = clock
        self._responses = Responses()
        self._messages = Messages()
        self._operations: dict[str, Face] = {}
        if "openai" in spec.dialects:
            self._operations["/v1/chat/completions"] = Chat()
            self._operations["/v1/responses"] = self._responses
            self._operations["/v1/embeddings"] = Embeddings()
        if "anthropic" in spec.dialects:
            self._operations["/v1/messages"] = self._messages
        self._faults = FaultScript(spec.faults, spec.seed)
        self.reset()

    def reset(self) -> None:
        """Start again: time, limits, faults and statistics; calls in flight end in the old accounts."""
        self._time = _VendorTime(self._clock, self.spec)
        self._accounts: dict[str, Account] = {}
        self._statistics = Statistics(self._time.started_at)
        self._number = 0
        for key in self.spec.keys or ():
            self._account(key)

    def statistics(self) -> dict[str, Any]:
        """Return what happened since the start, as plain data; docs/how-to/simulated-vendor.md explains it."""
        now = self._time.now()
        for account in self._accounts.values():
            account.advance(now)
        return self._statistics.snapshot(now, list(self._accounts.values()), self.spec.time_scale)

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request (ASGI 3)."""
        if scope["type"] != "http":
            return
        path: str = scope["path"]
        face = self._operations.get(path)
        if face is not None and scope["method"] == "POST":
            await self._operate(face, scope, receive, send)
        elif path.startswith("/simulated/"):
            await self._tell(path, send)
        else:
            await self._look_up(scope, receive, send)

    async def _tell(self, path: str, send: Send) -> None:
        if path == "/simulated/statistics":
            await respond(send, 200, [JSON_TYPE], msgspec.json.encode(self.statistics()))
        elif path == "/simulated/reset":
            self.reset()
            await respond(send, 200, [JSON_TYPE], b'{"reset":true}')
        else:
            await respond(send, 404, [JSON_TYPE], b'{"error":"there are /simulated/statistics and /simulated/reset"}')

    async def _operate(self, face: Face, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a call that costs quota."""
        try:
            body = await _read_body(receive)
        except ClientGone:
            return
        except Refused as refused:
            await self._refuse(send, face.dialect, refused, [(_ID_HEADERS[face.dialect], b"req_unread")])
            return
        self._number += 1
        number, statistics = self._number, self._statistics
        statistics.arrived()
        head: Headers = [(_ID_HEADERS[face.dialect], b"req_%08x%016x" % (self.spec.seed & 0xFFFFFFFF, number))]
        try:
            performance = self._open(face, number, dict(scope["headers"]), body, head)
        except Refused as refused:
            statistics.refused(self._time.now(), refused.status, error_code(refused), refused.limit)
            await self._refuse(send, face.dialect, refused, head)
            return
        outcome = "broken"
        try:
            outcome = await performance.play(receive, send)
        except ClientGone:
            outcome = "abandoned"
        finally:
            now = performance.now()
            performance.account.finish(now, performance.admission)
            statistics.finished(now, performance.admission.generated, outcome)

    def _open(self, face: Face, number: int, headers: _HeaderMap, body: bytes, head: Headers) -> Performance:
        """Check, admit and draw one call; `head` receives the rate-limit headers. Raises Refused."""
        time, spec = self._time, self.spec
        now = time.now()
        key = _key(headers)
        struck = self._faults.strike(number, now - time.started_at, key)
        self._statistics.faults.update(struck.keys())
        self._authenticate(key, revoked=FaultKind.REVOKED in struck)
        ask = _decode(face, body, headers)
        self._check_model(ask.model)
        self._fail_outright(struck, ask)
        pieces, cut_short = generate(ask, spec.output_tokens, spec.seed, fingerprint(body))
        account = self._account(key)
        billed = ask.input_tokens - (ask.cached_tokens if face.dialect == "anthropic" else 0)
        admitted = account.admit(now, billed, None if ask.max_tokens is None else ask.max_tokens * ask.choices)
        if not spec.silent:
            head.extend(limit_headers(face.dialect, account, now, self._clock.wall(), spec.time_scale))
        if isinstance(admitted, Refusal):
            raise refused_by(admitted, ask.model, spec.time_scale)
        self._statistics.accepted(now, ask.input_tokens, ask.cached_tokens)
        source = chance(spec.seed, "speed", number)
        answer_id = f"{face.id_prefix}{source.getrandbits(96):024x}"
        answer = Answer(answer_id, now // SECOND, ask, pieces, cut_short, spec.seed)
        pace = self._pace(struck, source)
        return Performance(spec, face, answer, account, admitted, head, *pace, struck, time.now)

    def _authenticate(self, key: str, *, revoked: bool) -> None:
        if not key:
            raise Refused(401, "You did not provide an API key.", code="missing_api_key")
        if revoked or (self.spec.keys is not None and key not in self.spec.keys):
            raise Refused(401, "Incorrect API key provided.", code="invalid_api_key")

    def _check_model(self, model: str) -> None:
        if self.spec.models is not None and model not in self.spec.models:
            raise Refused(404, f"The model '{model}' does not exist or you do not have access to it.",
                          code="model_not_found", param="model")  # fmt: skip

    def _fail_outright(self, struck: dict[FaultKind, Fault], ask: Ask) -> None:
        """Raise Refused where a fault takes the place of an answer."""
        fault = struck.get(FaultKind.STORM) or struck.get(FaultKind.ERROR)
        if fault is None or (ask.stream and "chunks" in fault.model_fields_set):
            return
        status = 429 if fault.kind is FaultKind.STORM else fault.status
        wait_ns = None if fault.retry_after is None else int(fault.retry_after / self.spec.time_scale)
        raise Refused(status, f"Simulated fault: {fault.kind}.", code=fault.code, retry_after_ns=wait_ns)

    def _pace(self, struck: dict[FaultKind, Fault], source: Random) -> tuple[float, float]:
        """Return the seconds to the first token and for each token, of the vendor's time."""
        first_token_s = self.spec.first_token_s.draw(source)
        rate = self.spec.tokens_per_s.draw(source)
        token_s = 1 / rate if rate else 0.0
        if (slow := struck.get(FaultKind.SLOW)) is not None:
            token_s += (SECOND // 5 if slow.delay is None else slow.delay) / SECOND
        if (latency := struck.get(FaultKind.LATENCY)) is not None:
            factor = 10.0 if latency.factor is None else latency.factor
            first_token_s = first_token_s * factor + (latency.delay or 0) / SECOND
        return first_token_s, token_s

    def _account(self, key: str) -> Account:
        name = "" if self.spec.shared_account else key
        account = self._accounts.get(name)
        if account is None:
            if len(self._accounts) >= _MOST_ACCOUNTS:
                raise Refused(403, f"This simulated vendor keeps {_MOST_ACCOUNTS} accounts at most; reset it.")
            account = self._accounts[name] = Account(self.spec, self._time.started_at)
        return account

    async def _look_up(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer what costs no quota: counts, models, stored responses, and addresses that do not exist."""
        headers: _HeaderMap = dict(scope["headers"])
        path: str = scope["path"]
        anthropic = b"anthropic-version" in headers or path.startswith("/v1/messages")
        dialect = "anthropic" if anthropic or "openai" not in self.spec.dialects else "openai"
        head: Headers = [(_ID_HEADERS[dialect], b"req_lookup")]
        try:
            found = self._found(scope["method"], path, dialect, headers, await _read_body(receive))
        except ClientGone:
            return
        except Refused as refused:
            await self._refuse(send, dialect, refused, head)
            return
        await respond(send, 200, [*head, JSON_TYPE], msgspec.json.encode(found))

    def _found(self, method: str, path: str, dialect: str, headers: _HeaderMap, body: bytes) -> Json:
        """Return what a lookup finds; raises Refused."""
        self._authenticate(_key(headers), revoked=False)
        steps = path.strip("/").split("/")
        match method, steps:
            case "POST", ["v1", "messages", "count_tokens"] if "anthropic" in self.spec.dialects:
                model, tokens = self._messages.count(_parse(body), headers)
                self._check_model(model)
                return {"input_tokens": tokens}
            case "GET", ["v1", "models"]:
                return list_models(dialect, self.spec.models or _DEFAULT_MODELS, self._time.started_at)
            case "GET", ["v1", "models", *name]:
                model = "/".join(name)
                self._check_model(model)
                return describe_model(dialect, model, self._time.started_at)
            case "GET", ["v1", "responses", response_id] if "openai" in self.spec.dialects:
                return self._responses.retrieve(response_id)
            case "DELETE", ["v1", "responses", response_id] if "openai" in self.spec.dialects:
                return self._responses.delete(response_id)
            case _ if path in self._operations:
                raise Refused(405, f"{path} does not take {method}; use POST.", code="method_not_allowed")
            case _:
                raise Refused(404, f"Unknown request URL: {method} {path}.", code="unknown_url")

    async def _refuse(self, send: Send, dialect: str, refused: Refused, head: Headers) -> None:
        after = refusal_headers(dialect, refused, self.spec.retry_after)
        body = error_body(dialect, refused, head[0][1].decode())
        await respond(send, refused.status, [*head, *after, JSON_TYPE], body)


def create_vendor(spec: VendorSpec, clock: Clock | None = None) -> SimulatedVendor:
    """Return a simulated vendor; without a clock it lives in the time of this host."""
    return SimulatedVendor(spec, SystemClock() if clock is None else clock)


async def _read_body(receive: Receive) -> bytes:
    """Return the whole body; raises ClientGone, or Refused (413)."""
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        part = message.get("body", b"")
        size += len(part)
        if size > _LARGEST_BODY:
            raise Refused(413, f"The request body is larger than {_LARGEST_BODY} bytes.", code="request_too_large")
        parts.append(part)
        if not message.get("more_body", False):
            return b"".join(parts)


def _parse(body: bytes) -> Json:
    try:
        decoded = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refused(400, f"We could not parse the JSON body of your request: {error}.") from None
    if not isinstance(decoded, dict):
        raise Refused(400, "The body of a request must be a JSON object.")
    return decoded


def _decode(face: Face, body: bytes, headers: _HeaderMap) -> Ask:
    try:
        return face.decode(_parse(body), headers)
    except RecursionError:
        raise Refused(400, "The body of the request is nested too deeply.") from None


def _key(headers: _HeaderMap) -> str:
    written = headers.get(b"authorization", b"")
    if written[:7].lower() == b"bearer ":
        return written[7:].strip().decode("latin-1")
    return headers.get(b"x-api-key", b"").decode("latin-1")
