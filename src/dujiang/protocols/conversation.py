"""The neutral form of a call, through which every dialect is translated into every other.

A decoder reads a dialect into these structs, an encoder writes them in another. `where` is the path of what a
part was read from, so that an encoder which has no word for it can name it to the caller.
"""

from __future__ import annotations

import binascii
from collections.abc import Mapping
from enum import StrEnum
from typing import Literal, TypeAlias

import msgspec

from dujiang.errors import InvalidRequest
from dujiang.protocols.token_counts import TokenUsage


class Text(msgspec.Struct, frozen=True):
    text: str
    where: str = ""


class Refusal(msgspec.Struct, frozen=True):
    """Why the model would not answer, where a dialect keeps that apart from text."""

    text: str
    where: str = ""


class Reasoning(msgspec.Struct, frozen=True):
    """What the model thought before it answered; only replies have it."""

    text: str
    where: str = ""


class Image(msgspec.Struct, frozen=True):
    """A picture: an address, or base64 `data` with its `media_type`, or a vendor's `file_id`."""

    url: str | None = None
    data: str | None = None
    media_type: str | None = None
    file_id: str | None = None
    detail: str | None = None
    where: str = ""


class Audio(msgspec.Struct, frozen=True):
    """A recording: base64 `data` and its `format` (`wav`, `mp3`)."""

    data: str
    format: str
    where: str = ""


class Document(msgspec.Struct, frozen=True):
    """A file: an address, or base64 `data` with its `media_type`, or a vendor's `file_id`."""

    url: str | None = None
    data: str | None = None
    media_type: str | None = None
    file_id: str | None = None
    name: str | None = None
    where: str = ""


class ToolUse(msgspec.Struct, frozen=True):
    """A call of a tool by the model; `arguments` is JSON text, as the model wrote it."""

    id: str
    name: str
    arguments: str
    where: str = ""


class ToolResult(msgspec.Struct, frozen=True):
    id: str
    parts: list[Text | Image | Document]
    where: str = ""


Part: TypeAlias = Text | Refusal | Reasoning | Image | Audio | Document | ToolUse | ToolResult
Role: TypeAlias = Literal["system", "user", "assistant", "tool"]


class Message(msgspec.Struct):
    """One message; the results of tools are messages of the role `tool` and hold nothing else."""

    role: Role
    parts: list[Part]
    where: str = ""


class Tool(msgspec.Struct, frozen=True):
    """A function the model may call; `parameters` is a JSON schema."""

    name: str
    description: str | None = None
    parameters: dict[str, object] | None = None
    strict: bool | None = None


class ToolChoice(msgspec.Struct, frozen=True):
    mode: Literal["auto", "none", "required", "tool"]
    name: str | None = None


class ResponseFormat(msgspec.Struct, frozen=True):
    """The form the answer must have: any JSON object, or what a JSON schema describes."""

    kind: Literal["json_object", "json_schema"]
    schema: dict[str, object] | None = None
    name: str | None = None
    description: str | None = None
    strict: bool | None = None


class Request(msgspec.Struct):
    """What a caller asks of a model. `hints` are members which chat and responses spell alike.

    `names` tells what the caller's dialect calls a member, for refusals.
    """

    messages: list[Message]
    system: list[Text] = []
    tools: list[Tool] = []
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    max_output_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    stop: list[str] = []
    format: ResponseFormat | None = None
    reasoning_effort: str | None = None
    verbosity: str | None = None
    end_user: str | None = None
    hints: dict[str, object] = {}
    stream: bool = False
    names: Mapping[str, str] = {}


class Finish(StrEnum):
    """Why an answer ended."""

    STOP = "stop"
    LENGTH = "length"
    TOOL_CALLS = "tool_calls"
    CONTENT_FILTER = "content_filter"


class Reply(msgspec.Struct):
    """A whole answer; `stop_sequence` is the one that ended it, where the vendor says so."""

    parts: list[Text | Refusal | Reasoning | ToolUse]
    finish: Finish
    usage: TokenUsage | None = None
    stop_sequence: str | None = None


class Started(msgspec.Struct, frozen=True):
    """A stream has begun; `usage` where the vendor counts the input before it answers."""

    usage: TokenUsage | None = None


class TextDelta(msgspec.Struct, frozen=True):
    text: str


class RefusalDelta(msgspec.Struct, frozen=True):
    text: str


class ReasoningDelta(msgspec.Struct, frozen=True):
    text: str


class ToolStarted(msgspec.Struct, frozen=True):
    """The model begins to call a tool; it ends with the next part or the end of the stream."""

    id: str
    name: str


class ArgumentsDelta(msgspec.Struct, frozen=True):
    """More of the arguments of the tool call that started last."""

    text: str


class Finished(msgspec.Struct, frozen=True):
    """The stream has come to its proper end."""

    finish: Finish
    usage: TokenUsage | None = None
    stop_sequence: str | None = None


StreamEvent: TypeAlias = Started | TextDelta | RefusalDelta | ReasoningDelta | ToolStarted | ArgumentsDelta | Finished


def with_tool_finish(finish: Finish, *, called_tools: bool) -> Finish:
    """Return why an answer ended, also for vendors that say `stop` when they call tools."""
    return Finish.TOOL_CALLS if called_tools and finish is Finish.STOP else finish


def joined_text(parts: list[Text], separator: str = "\n\n") -> str:
    return separator.join(part.text for part in parts)


def split_system(messages: list[Message]) -> tuple[list[Text], list[Message]]:
    """Return the system texts that lead a conversation, and the messages after them."""
    count = next((i for i, message in enumerate(messages) if message.role != "system"), len(messages))
    system = [part for message in messages[:count] for part in message.parts if isinstance(part, Text)]
    return system, messages[count:]


def data_of_url(url: str, where: str) -> tuple[str, str] | None:
    """Return media type and base64 data of a `data:` URL, or `None` for another address.

    Raises InvalidRequest for a data URL that is not base64.
    """
    if not url.startswith("data:"):
        return None
    head, comma, data = url[5:].partition(",")
    media_type, _, encoding = head.partition(";")
    if not comma or not media_type or not encoding.endswith("base64"):
        raise InvalidRequest(f"{where} must be a data URL in base64: data:TYPE;base64,DATA.", param=where)
    return media_type, data


def base64_of_text(text: str) -> str:
    return binascii.b2a_base64(text.encode(), newline=False).decode()


def text_of_base64(data: str, where: str) -> str:
    """Return the text in base64 data; raises InvalidRequest when it is none."""
    try:
        return binascii.a2b_base64(data).decode()
    except ValueError as error:
        raise InvalidRequest(f"{where} must be base64 of UTF-8 text.", param=where) from error
