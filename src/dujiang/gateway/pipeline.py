"""The way of a call, in one function that is read from top to bottom: `Pipeline._exchange`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

import msgspec

from dujiang.accounts.keys import KeyRing
from dujiang.admission.controller import Admission
from dujiang.admission.demand import Demand
from dujiang.admission.estimates import TokenEstimator
from dujiang.admission.reservation import Reservation
from dujiang.admission.scheduler import Ask, Candidate
from dujiang.caching.fingerprints import fingerprints
from dujiang.clock import MILLISECOND, Clock
from dujiang.config.schema import QueueSection
from dujiang.errors import Draining, DujiangError, InvalidRequest, QuotaExhausted, forget_trace
from dujiang.gateway.answer_headers import answer_headers, header_lines
from dujiang.gateway.catalogue import Catalogue, Entitlement
from dujiang.gateway.exchange import (
    CONNECT,
    OWN,
    SLOW_CLIENT,
    VENDOR_FIRST_BYTE,
    VENDOR_QUEUE,
    Client,
    Exchange,
    Request,
)
from dujiang.gateway.relay import Relay, VendorAnswer
from dujiang.gateway.request_headers import caller_deadline, caller_priority, caller_secret, caller_tags
from dujiang.gateway.response_homes import ResponseHomes
from dujiang.gateway.vendor_trouble import (
    DEAD_ACCOUNT,
    VendorTrouble,
    backoff_s,
    may_try_again,
    pause,
    unreachable,
)
from dujiang.metering.record import Outcome, RecordSink
from dujiang.protocols.calls import Call, decode_call, vendor_body
from dujiang.protocols.error_bodies import error_body, error_event, error_headers, error_status
from dujiang.protocols.prompt_text import prompt_text
from dujiang.protocols.translation import translate_request
from dujiang.terms import Operation, TenantId, Usage
from dujiang.vendors.deployments import Deployment, dialect_sent
from dujiang.vendors.http_client import HttpClient, HttpResponse
from dujiang.vendors.refusals import Meaning
from dujiang.vendors.tokenizers import count_tokens
from dujiang.vendors.transport_errors import TransportError

log = logging.getLogger("dujiang.gateway")


class Pipeline:
    """Takes calls through the rooms: who, what, may it, where, and what became of it."""

    def __init__(
        self,
        *,
        clock: Clock,
        keys: KeyRing,
        catalogue: Catalogue,
        admission: Admission[Deployment],
        client: HttpClient,
        records: RecordSink,
        queue: QueueSection,
        fingerprint_key: bytes,
        use_tokenizer: bool = False,
    ) -> None:
        self.clock = clock
        self.keys = keys
        self.catalogue = catalogue
        self.admission = admission
        self.client = client
        self.queue = queue
        self.estimator = TokenEstimator()
        self.draining = False
        self.in_flight = 0
        self._records = records
        self._fingerprint_key = fingerprint_key
        self.use_tokenizer = use_tokenizer
        self.relay = Relay(clock, self._finished)
        self._homes = ResponseHomes()

    async def run(self, request: Request, caller: Client) -> None:
        """Answer one request, whatever happens, and write its record."""
        exchange = Exchange(request, self.clock)
        self.in_flight += 1
        abandoned = False
        try:
            await self._exchange(exchange, caller)
        except DujiangError as error:
            await self._refuse(exchange, error, caller)
        except asyncio.CancelledError:
            # The caller is gone. What a vendor is still doing for it was handed to the relay.
            abandoned = exchange.outcome is Outcome.CANCELLED
            exchange.outcome = Outcome.CANCELLED
            exchange.status = 499
        except Exception:
            log.exception("a call failed inside the gateway", extra={"request_id": request.request_id})
            await self._refuse(exchange, DujiangError("Something went wrong inside the gateway."), caller)
        finally:
            self.in_flight -= 1
            if not abandoned:
                self._finished(exchange)

    async def _exchange(self, exchange: Exchange, caller: Client) -> None:
        if self.draining:
            raise Draining(retry_after_ns=1_000 * MILLISECOND)
        request = exchange.request
        exchange.key = self.keys.find(caller_secret(request.headers), exchange.wall_at)
        exchange.stamps.authenticated = exchange.book(OWN)

        try:
            body = await request.body()
        finally:
            arrived_at = exchange.book(SLOW_CLIENT)
        exchange.stamps.body = arrived_at
        call = exchange.call = decode_call(request.operation, body)
        entitlement = exchange.entitlement = self.catalogue.entitlement(exchange.key, call.model)
        exchange.tags = caller_tags(request.headers, call.metadata)
        ask = exchange.ask = self._ask(exchange, call, entitlement)
        if not ask.candidates:
            await self._count_tokens(exchange, call, caller)
            return

        meanings: list[Meaning] = []
        while True:
            # May wait its turn. Chooses the deployment and holds every limit on both sides, in one decision.
            exchange.reservation = await self._reserve(exchange, entitlement, ask)
            try:
                answer = await self._send(exchange, call, entitlement)
            except VendorTrouble as trouble:
                meanings.append(trouble.meaning)
                self._give_back(exchange, trouble)
                await self._before_next_try(exchange, ask, trouble, meanings)
            else:
                break

        await self.relay.deliver(exchange, answer, caller)

    def _ask(self, exchange: Exchange, call: Call, entitlement: Entitlement) -> Ask[Deployment]:
        """Say what the call needs, how urgent it is, and where it could go."""
        request = exchange.request
        exchange.priority = caller_priority(request.headers, call.service_tier, entitlement)
        exchange.deadline = caller_deadline(request.headers, request.accepted_at, self.queue.max_wait)
        candidates = self._candidates(call, entitlement)
        key = exchange.key
        assert key is not None
        tenant = key.tenant
        count = self._counter(call, candidates) if self.use_tokenizer else None
        input_tokens, output_tokens = self.estimator.estimate(
            tenant,
            entitlement.route.name,
            len(call.body),
            call.max_output_tokens,
            count,
        )
        if call.operation in (Operation.EMBEDDINGS, Operation.COUNT_TOKENS):
            output_tokens = 0
        estimate = Usage(input_tokens=input_tokens, output_tokens=output_tokens * call.answers)
        exchange.estimate = estimate
        ceiling = None
        if call.max_output_tokens is not None:
            ceiling = Usage(input_tokens=input_tokens, output_tokens=call.max_output_tokens * call.answers)
        return Ask(
            tenant=TenantId(tenant),
            tenant_meters=entitlement.meters,
            candidates=candidates,
            demand=Demand(estimate, ceiling),
            priority=exchange.priority,
            deadline=exchange.deadline,
            arrived_at=request.accepted_at,
            size_bytes=len(call.body),
            tenant_patience_ns=entitlement.patience_ns,
        )

    def _counter(self, call: Call, candidates: Sequence[Candidate[Deployment]]) -> Callable[[], int | None]:
        """Return what counts the call's tokens exactly, if its model has a tokenizer that works here."""
        tokenizer = candidates[0].target.tokenizer if candidates else "none"
        return lambda: count_tokens(tokenizer, prompt_text(call.body, call.dialect))

    def _candidates(self, call: Call, entitlement: Entitlement) -> Sequence[Candidate[Deployment]]:
        """Return the deployments that can take the call as it is; raises InvalidRequest when its fields forbid all."""
        route = entitlement.route
        if len(route.candidates) == 1 and call.previous_response_id is None:
            only = route.candidates[0].target.sent_as(call.operation)
            if only is call.operation:
                return route.candidates
        ordered = route.ordered()
        if call.previous_response_id is not None:
            ordered = self._homes.candidates(call.previous_response_id, ordered)
        usable: list[Candidate[Deployment]] = []
        reason: InvalidRequest | None = None
        for candidate in ordered:
            target = candidate.target.sent_as(call.operation)
            if target is None:
                continue
            try:
                if target is not call.operation:
                    translate_request(call.body, call.dialect, dialect_sent(target), model=candidate.target.model)
                elif call.previous_response_id is not None and not candidate.target.keeps_state():
                    raise InvalidRequest(
                        "The vendor behind this model keeps no responses; send the whole conversation as `input`.",
                        param="previous_response_id",
                    )
            except InvalidRequest as error:
                reason = reason or error
            else:
                usable.append(candidate)
        if usable or call.operation is Operation.COUNT_TOKENS:
            return usable
        raise reason or InvalidRequest(f"The model {call.model!r} does not do {call.operation}.", param="model")

    async def _reserve(
        self, exchange: Exchange, entitlement: Entitlement, ask: Ask[Deployment]
    ) -> Reservation[Deployment]:
        ask.waiting_since = self.clock.now()
        try:
            reservation = await self.admission.reserve(entitlement.route.name, ask)
        except asyncio.CancelledError:
            ask.book_wait(self.clock.now())
            raise
        finally:
            waited_until = exchange.book_admission()
        exchange.stamps.admitted = waited_until
        return reservation

    async def _send(self, exchange: Exchange, call: Call, entitlement: Entitlement) -> VendorAnswer:
        """Send the call to the deployment it was given; raises VendorTrouble. Nobody's slot is lost on the way."""
        reservation = exchange.reservation
        assert reservation is not None
        deployment = exchange.deployment = reservation.target
        operation = deployment.sent_as(call.operation)
        assert operation is not None
        dialect = dialect_sent(operation)
        pieces = deployment.request(operation, self._vendor_body(call, deployment, operation), exchange.request.headers)
        exchange.attempt_at = exchange.stamps.pool = exchange.book(OWN)
        link = deployment.link
        response: HttpResponse | None = None
        try:
            connection = self.client.take_idle(link.origin) or await self.client.connect(link.origin, link.timeouts)
            exchange.stamps.dialled = exchange.book(CONNECT)
            response = self.client.begin(link.origin, connection, pieces, link.timeouts)
            answer = await self.relay.receive(exchange, response, dialect, stream=call.stream)
        except TransportError as error:
            trouble = unreachable(error)
            self._note_attempt(exchange, trouble, connected=response is not None)
            raise trouble from error
        except VendorTrouble as trouble:
            self._note_attempt(exchange, trouble, connected=True)
            raise
        except asyncio.CancelledError:
            exchange.book(CONNECT if response is None else VENDOR_FIRST_BYTE)
            if response is None:
                reservation.release(self.clock.now())
            else:
                self.relay.abandon(exchange, response, None, dialect)
            raise
        except Exception:
            if response is not None:
                response.close()
            raise
        exchange.attempted("ok", response.status, exchange.book(VENDOR_FIRST_BYTE))
        if operation is Operation.RESPONSES:
            self._homes.note(answer.first, deployment)
        exchange.vendor_request_id = answer.request_id(link.profile.request_id_header)
        return answer

    def _vendor_body(self, call: Call, deployment: Deployment, operation: Operation) -> bytes:
        if operation is call.operation:
            ask_for_usage = call.stream and not call.wants_usage and deployment.asks_for_usage
            return vendor_body(call, deployment.model, ask_for_usage=ask_for_usage)
        return translate_request(
            call.body,
            call.dialect,
            dialect_sent(operation),
            model=deployment.model,
            chat_max_tokens_field=deployment.max_tokens_field,
        )

    def _note_attempt(self, exchange: Exchange, trouble: VendorTrouble, *, connected: bool) -> None:
        at = exchange.book(VENDOR_FIRST_BYTE if connected else CONNECT)
        exchange.attempted(trouble.meaning, trouble.status, at)

    def _give_back(self, exchange: Exchange, trouble: VendorTrouble) -> None:
        """End the reservation of an attempt that brought no answer, and leave its deployment alone for a while."""
        now = self.clock.now()
        reservation = exchange.reservation
        assert reservation is not None
        deployment = reservation.target
        charged = trouble.vendor_usage(deployment, exchange.estimate)
        whole_account = trouble.meaning in DEAD_ACCOUNT
        for candidate in self.catalogue.deployments():
            target = candidate.target
            if target.name == deployment.name or (whole_account and target.account == deployment.account):
                pause(candidate, trouble, now)
        reservation.settle(Usage(requests=0), now, vendor_actual=charged)
        exchange.usage = Usage(requests=0)
        exchange.usage_source = "none"

    async def _before_next_try(
        self, exchange: Exchange, ask: Ask[Deployment], trouble: VendorTrouble, meanings: list[Meaning]
    ) -> None:
        """Return when the call may be sent once more; raises the caller's error when it may not.

        After a breakdown another deployment is tried at once, the same one after a pause of this call alone:
        one bad answer closes a deployment for nobody else.
        """
        others = [one for one in ask.candidates if one.target is not exchange.deployment]
        reachable = any(one.available_at <= self.clock.now() for one in others)
        if not may_try_again(trouble, meanings, others=reachable):
            raise trouble.error from trouble
        ask.returned = True
        exchange.begin_again()
        if trouble.is_refusal or trouble.meaning in DEAD_ACCOUNT:
            return
        if others:
            ask.candidates = others
        else:
            await asyncio.sleep(backoff_s(len(meanings)))
            exchange.book(VENDOR_QUEUE)

    async def _count_tokens(self, exchange: Exchange, call: Call, caller: Client) -> None:
        """Answer a count for a model whose vendor does not count, by the gateway's own estimate."""
        body = msgspec.json.encode({"input_tokens": exchange.estimate.input_tokens})
        exchange.status = 200
        exchange.usage = Usage(requests=1)
        lines = answer_headers(exchange, b"application/json") + b"x-dujiang-estimated: true\r\n"
        await caller.answer(200, lines, body)

    async def _refuse(self, exchange: Exchange, error: DujiangError, caller: Client) -> None:
        """Tell the caller of an error: as an answer, or inside the stream that has begun."""
        exchange.book(OWN)
        exchange.failed(error)
        if exchange.reservation is not None:
            exchange.reservation.release(self.clock.now())
        if isinstance(error, QuotaExhausted):
            error.retry = False
        dialect, request_id = exchange.dialect, exchange.request.request_id
        if exchange.started:
            caller.write(error_event(error, dialect, request_id))
            await caller.finish()
            return
        exchange.status = error_status(error, dialect)
        lines = answer_headers(exchange, b"application/json") + header_lines(error_headers(error))
        await caller.answer(exchange.status, lines, error_body(error, dialect, request_id))

    def _finished(self, exchange: Exchange) -> None:
        """Learn from a call that has ended, and hand its record on."""
        call, key = exchange.call, exchange.key
        if call is not None and key is not None and exchange.reservation is not None:
            if exchange.usage_source == "vendor" and exchange.usage.tokens:
                route = self.catalogue.routes.get(call.model)
                model = route.name if route is not None else call.model
                usage = exchange.usage
                self.estimator.learn(
                    key.tenant, model, len(call.body), usage.input_tokens, usage.output_tokens // call.answers
                )
            scope = f"{key.tenant}\n{call.operation}\n{call.model}"
            exact, normalised = fingerprints(scope, call.body, self._fingerprint_key)
            end_user = None
            if call.end_user:
                end_user, _ = fingerprints(
                    f"{key.tenant}\nuser", msgspec.json.encode({"id": call.end_user}), self._fingerprint_key
                )
            exchange.fingerprints = exact, normalised, end_user
        self._records.append(exchange.record())
        if exchange.error is not None:
            # An error holds, by its traceback, the frames it came through, and so the request's body.
            forget_trace(exchange.error)
