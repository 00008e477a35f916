"""Translate calls from the dialect of the caller into that of the vendor, and the answers back.

What maps to what, and what is refused, is told in `docs/reference/translation.md`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol, assert_never

from dujiang.errors import InvalidRequest, VendorFailed
from dujiang.protocols import (
    anthropic_messages,
    anthropic_messages_reply,
    openai_chat,
    openai_chat_reply,
    openai_responses,
    openai_responses_reply,
    openai_responses_stream,
    sse,
)
from dujiang.protocols.conversation import Finished, Reply, Request, StreamEvent
from dujiang.protocols.error_bodies import error_event, filtered_message, vendor_error
from dujiang.protocols.usage import StreamUsage
from dujiang.terms import Dialect, Usage


def translate_request(
    body: bytes,
    source: Dialect,
    target: Dialect,
    *,
    model: str,
    max_output_tokens_default: int = 4096,
    chat_max_tokens_field: str = "max_completion_tokens",
) -> bytes:
    """Return a caller's request in the vendor's dialect, for the vendor's `model`.

    `max_output_tokens_default` bounds the answer where the vendor must be told a bound and the caller gave none;
    `chat_max_tokens_field` is `max_tokens` for vendors that know only that name. Raises InvalidRequest, with the
    path in `param`, for what is malformed and for what has no counterpart.
    """
    request = _decoded_request(body, source, target)
    _refuse_prefill(request, source, target)
    match target:
        case Dialect.CHAT:
            return openai_chat.encode_request(request, model, chat_max_tokens_field)
        case Dialect.RESPONSES:
            return openai_responses.encode_request(request, model)
        case Dialect.MESSAGES:
            return anthropic_messages.encode_request(request, model, max_output_tokens_default)
        case Dialect.EMBEDDINGS:
            raise _untranslatable(source, target)
        case _:
            assert_never(target)


def _decoded_request(body: bytes, source: Dialect, target: Dialect) -> Request:
    match source:
        case Dialect.CHAT:
            return openai_chat.decode_request(body, target.value)
        case Dialect.RESPONSES:
            return openai_responses.decode_request(body, target.value)
        case Dialect.MESSAGES:
            return anthropic_messages.decode_request(body, target.value)
        case Dialect.EMBEDDINGS:
            raise _untranslatable(source, target)
        case _:
            assert_never(source)


def _untranslatable(source: Dialect, target: Dialect) -> InvalidRequest:
    return InvalidRequest(
        f"A call in the {source.value} dialect cannot be put into the {target.value} dialect, "
        "which the vendor of this model speaks; ask for another model."
    )


def _refuse_prefill(request: Request, source: Dialect, target: Dialect) -> None:
    """Refuse a conversation that ends with the assistant: messages goes on with that turn, the others do not."""
    last = request.messages[-1] if request.messages else None
    if last is None:
        raise InvalidRequest("The conversation holds no message but instructions; add one of the user.")
    if last.role == "assistant" and Dialect.MESSAGES in {source, target}:
        raise InvalidRequest(
            f"{last.where} ends the conversation with the assistant, which {source.value} and {target.value} "
            "take differently; end it with a message of the user.",
            param=last.where,
        )


def translate_reply(body: bytes, source: Dialect, target: Dialect, *, model: str, reply_id: str, created: int) -> bytes:
    """Return a vendor's whole answer (`source`) in the caller's dialect (`target`).

    `model` is the name the caller asked for, `reply_id` the id the answer bears, `created` seconds since 1970.
    Raises VendorFailed when the answer is malformed or one that has failed.
    """
    reply = _decoded_reply(body, source, reply_id)
    match target:
        case Dialect.CHAT:
            return openai_chat_reply.encode_reply(reply, model=model, reply_id=reply_id, created=created)
        case Dialect.RESPONSES:
            return openai_responses_reply.encode_reply(reply, model=model, reply_id=reply_id, created=created)
        case Dialect.MESSAGES:
            return anthropic_messages_reply.encode_reply(reply, model=model, reply_id=reply_id)
        case Dialect.EMBEDDINGS:
            raise _untranslatable(source, target)
        case _:
            assert_never(target)


def _decoded_reply(body: bytes, source: Dialect, reply_id: str) -> Reply:
    match source:
        case Dialect.CHAT:
            return openai_chat_reply.decode_reply(body, reply_id)
        case Dialect.RESPONSES:
            return openai_responses_reply.decode_reply(body)
        case Dialect.MESSAGES:
            return anthropic_messages_reply.decode_reply(body)
        case Dialect.EMBEDDINGS:
            raise _untranslatable(source, source)
        case _:
            assert_never(source)


class _StreamDecoder(Protocol):
    def read(self, event: sse.Event) -> Iterator[StreamEvent]: ...
    def finish(self) -> Iterator[StreamEvent]: ...


class _StreamEncoder(Protocol):
    def write(self, event: StreamEvent) -> bytes: ...


class StreamTranslator:
    """Translate one vendor stream (`source`) into the caller's dialect (`target`), cut anywhere.

    It always ends what it has written in the caller's dialect: in good order (`finished`), or with an error event
    (`failure`) when the vendor sends an error, sends what is no event of its dialect, or closes too early.
    `include_usage` is whether a chat client asked for the usage chunk.
    """

    def __init__(
        self,
        source: Dialect,
        target: Dialect,
        *,
        model: str,
        reply_id: str,
        created: int,
        include_usage: bool,
    ) -> None:
        self.counted = StreamUsage(source)
        """What the vendor's stream says it used, and what of it has passed."""
        self.finished = False
        """Whether the stream has been brought to its proper end in the caller's dialect."""
        self.failure: VendorFailed | None = None
        """Why it has been ended with an error event instead."""
        self._source = source
        self._target = target
        self._reply_id = reply_id
        self._events = sse.Decoder()
        self._decoder = _stream_decoder(source, reply_id)
        self._encoder = _stream_encoder(target, model, reply_id, created, include_usage=include_usage)

    @property
    def usage(self) -> Usage | None:
        return self.counted.usage

    @property
    def error(self) -> bytes | None:
        """Return the data of the vendor's error event, if it sent one."""
        return self.counted.error

    @property
    def sequence(self) -> int:
        """Return the `sequence_number` that the next event of a responses stream takes."""
        encoder = self._encoder
        return encoder.sequence if isinstance(encoder, openai_responses_stream.StreamEncoder) else 0

    def feed(self, chunk: bytes) -> bytes:
        """Return what the vendor's next bytes come to; it may be empty."""
        self.counted.output_bytes += len(chunk)
        try:
            events = self._events.feed(chunk)
        except ValueError:
            return self._failed(VendorFailed("The vendor's stream holds an event that is too long."))
        return b"".join(self._translated(event) for event in events)

    def finish(self) -> bytes:
        """Return what is left to write when the vendor has closed the stream."""
        out = b"".join(self._translated(event) for event in self._events.finish())
        out += self._written(self._decoder.finish())
        return out + self._failed(VendorFailed("The vendor closed its stream before the answer was complete."))

    def _translated(self, event: sse.Event) -> bytes:
        self.counted.take(event.data)
        if self.error is not None:
            said = vendor_error(200, {}, self.error, self._source)
            return self._failed(VendorFailed(filtered_message(said.message) or None))
        return self._written(self._decoder.read(event))

    def _written(self, events: Iterator[StreamEvent]) -> bytes:
        out = b""
        try:
            for event in events:
                if not self.finished and self.failure is None:
                    out += self._encoder.write(event)
                    self.finished = isinstance(event, Finished)
        except VendorFailed as failure:
            out += self._failed(failure)
        return out

    def _failed(self, failure: VendorFailed) -> bytes:
        """Return the event that ends the stream as broken; nothing when it has ended already."""
        if self.finished or self.failure is not None:
            return b""
        self.failure = failure
        return error_event(failure, self._target, self._reply_id, self.sequence)


def _stream_decoder(source: Dialect, reply_id: str) -> _StreamDecoder:
    match source:
        case Dialect.CHAT:
            return openai_chat_reply.StreamDecoder(reply_id)
        case Dialect.RESPONSES:
            return openai_responses_reply.StreamDecoder()
        case Dialect.MESSAGES:
            return anthropic_messages_reply.StreamDecoder()
        case Dialect.EMBEDDINGS:
            raise _untranslatable(source, source)
        case _:
            assert_never(source)


def _stream_encoder(target: Dialect, model: str, reply_id: str, created: int, *, include_usage: bool) -> _StreamEncoder:
    match target:
        case Dialect.CHAT:
            return openai_chat_reply.StreamEncoder(
                model=model, reply_id=reply_id, created=created, include_usage=include_usage
            )
        case Dialect.RESPONSES:
            return openai_responses_stream.StreamEncoder(model=model, reply_id=reply_id, created=created)
        case Dialect.MESSAGES:
            return anthropic_messages_reply.StreamEncoder(model=model, reply_id=reply_id)
        case Dialect.EMBEDDINGS:
            raise _untranslatable(target, target)
        case _:
            assert_never(target)
