"""A request as the gateway reads it: the few facts it decides by; everything else stays as it came."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from dujiang.errors import InvalidRequest
from dujiang.terms import Dialect, Operation

DEPTH_MAX = 128
"""How deep the JSON of a request may be nested."""

_AT = re.compile(r"^(.*?)(?: - at `(?:\$\.?)?(.*)`)?$", re.DOTALL)


class _StreamOptions(msgspec.Struct):
    include_usage: bool | None = False


class _Chat(msgspec.Struct):
    model: str
    messages: msgspec.Raw
    stream: bool | None = False
    stream_options: _StreamOptions | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    n: int | None = 1
    service_tier: str | None = None
    user: str | None = None
    metadata: dict[str, Any] | None = None


class _Responses(msgspec.Struct):
    model: str
    input: msgspec.Raw = msgspec.Raw(b"null")
    stream: bool | None = False
    max_output_tokens: int | None = None
    previous_response_id: str | None = None
    service_tier: str | None = None
    user: str | None = None
    metadata: dict[str, Any] | None = None


class _MessagesMetadata(msgspec.Struct):
    user_id: str | None = None


class _Messages(msgspec.Struct):
    model: str
    messages: msgspec.Raw
    max_tokens: int | None = None
    stream: bool | None = False
    service_tier: str | None = None
    metadata: _MessagesMetadata | None = None


class _Embeddings(msgspec.Struct):
    model: str
    input: msgspec.Raw
    user: str | None = None


class Call(msgspec.Struct, kw_only=True, gc=False):
    """One request as decoded."""

    operation: Operation
    dialect: Dialect
    body: bytes
    model: str
    stream: bool = False
    wants_usage: bool = True
    """Whether the client expects usage in its stream; false only for chat streams that did not ask."""
    max_output_tokens: int | None = None
    answers: int = 1
    service_tier: str | None = None
    end_user: str | None = None
    previous_response_id: str | None = None
    metadata: dict[str, str] = {}


_DECODERS: dict[Operation, tuple[Dialect, msgspec.json.Decoder[Any]]] = {
    Operation.CHAT: (Dialect.CHAT, msgspec.json.Decoder(_Chat)),
    Operation.RESPONSES: (Dialect.RESPONSES, msgspec.json.Decoder(_Responses)),
    Operation.MESSAGES: (Dialect.MESSAGES, msgspec.json.Decoder(_Messages)),
    Operation.COUNT_TOKENS: (Dialect.MESSAGES, msgspec.json.Decoder(_Messages)),
    Operation.EMBEDDINGS: (Dialect.EMBEDDINGS, msgspec.json.Decoder(_Embeddings)),
}
_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])


def dialect_of(operation: Operation) -> Dialect:
    """Return the wire format in which an operation is asked for."""
    return _DECODERS[operation][0]


def decode_call(operation: Operation, body: bytes) -> Call:
    """Read a request; raises InvalidRequest naming the field. Nested values are kept as they came."""
    dialect, decoder = _DECODERS[operation]
    _check_text(body)
    try:
        facts = decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise _invalid(body, error) from None
    if not facts.model:
        raise InvalidRequest("`model` is empty; name one of GET /v1/models.", param="model")
    call = Call(operation=operation, dialect=dialect, body=body, model=facts.model)
    if dialect is not Dialect.EMBEDDINGS:
        call.stream = bool(facts.stream) and operation is not Operation.COUNT_TOKENS
        call.service_tier = facts.service_tier
    if dialect is Dialect.CHAT:
        call.max_output_tokens = facts.max_completion_tokens or facts.max_tokens
        call.answers = max(facts.n or 1, 1)
        call.end_user = facts.user
        options = facts.stream_options
        call.wants_usage = not call.stream or bool(options and options.include_usage)
        call.metadata = _labels(facts.metadata)
    elif dialect is Dialect.RESPONSES:
        call.max_output_tokens = facts.max_output_tokens
        call.previous_response_id = facts.previous_response_id
        call.end_user = facts.user
        call.metadata = _labels(facts.metadata)
    elif dialect is Dialect.MESSAGES:
        call.max_output_tokens = facts.max_tokens
        call.end_user = facts.metadata.user_id if facts.metadata else None
        if operation is Operation.MESSAGES and facts.max_tokens is None:
            raise InvalidRequest("`max_tokens` is missing; say how many tokens to answer with.", param="max_tokens")
    else:
        call.end_user = facts.user
    if call.max_output_tokens is not None and call.max_output_tokens < 0:
        raise InvalidRequest("The maximum of output tokens is negative.", param="max_tokens")
    return call


def vendor_body(call: Call, model: str, *, ask_for_usage: bool) -> bytes:
    """Return the body for a vendor of the same dialect: the model's name is replaced, all else is as it came.

    With `ask_for_usage` a chat stream is asked for its usage, which the client did not ask for.
    """
    if model == call.model and not ask_for_usage:
        return call.body
    members = _OBJECT.decode(call.body)
    members["model"] = msgspec.Raw(msgspec.json.encode(model))
    if ask_for_usage:
        options = _OBJECT.decode(members["stream_options"]) if _is_object(members.get("stream_options")) else {}
        options["include_usage"] = msgspec.Raw(b"true")
        members["stream_options"] = msgspec.Raw(msgspec.json.encode(options))
    return msgspec.json.encode(members)


def _is_object(raw: msgspec.Raw | None) -> bool:
    return raw is not None and bytes(raw).lstrip()[:1] == b"{"


def _labels(metadata: dict[str, Any] | None) -> dict[str, str]:
    if not metadata:
        return {}
    return {name[:64]: value[:512] for name, value in list(metadata.items())[:16] if isinstance(value, str)}


def _check_text(body: bytes) -> None:
    if not body:
        raise InvalidRequest("The request body is empty; send a JSON object.")
    if not body.isascii():
        try:
            body.decode()
        except UnicodeDecodeError as error:
            raise InvalidRequest(f"The request body is not UTF-8 (byte {error.start}).") from None
    if body.count(b"[") + body.count(b"{") > DEPTH_MAX and _depth(body) > DEPTH_MAX:
        raise InvalidRequest(f"The request body is nested deeper than {DEPTH_MAX} levels.")


_NESTING = re.compile(rb'"(?:[^"\\]|\\.)*+"|[\[{]|[\]}]', re.DOTALL)


def _depth(body: bytes) -> int:
    """Return how deep the JSON is nested, not minding brackets inside strings."""
    depth = deepest = 0
    for match in _NESTING.finditer(body):
        first = match[0][0]
        if first in b"[{":
            depth += 1
            deepest = max(deepest, depth)
            if deepest > DEPTH_MAX:
                break
        elif first in b"]}":
            depth -= 1
    return deepest


def _invalid(body: bytes, error: Exception) -> InvalidRequest:
    text = str(error)
    match = _AT.match(text)
    message, where = (match[1], match[2]) if match else (text, None)
    missing = re.search(r"missing required field `([^`]+)`", message)
    if missing:
        return InvalidRequest(f"`{missing[1]}` is missing.", param=missing[1])
    if isinstance(error, msgspec.ValidationError):
        if not where:
            return InvalidRequest("The request body is not a JSON object.")
        return InvalidRequest(f"`{where}`: {message[:1].lower()}{message[1:]}.", param=where)
    if isinstance(error, RecursionError):
        return InvalidRequest("The request body is nested too deep.")
    return InvalidRequest(f"The request body is not valid JSON: {message[:200]}.")
