"""The shapes that pass between the vendor and its faces: what was asked, what is answered, what is refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

Json = dict[str, Any]


@dataclass(slots=True)
class Tool:
    """A tool the client offers: its name and the JSON schema of its arguments."""

    name: str
    schema: Json


@dataclass(slots=True)
class Ask:
    """One valid request, in the vendor's own terms.

    `max_tokens` bounds each choice; `output_tokens` is what a client that replays a trace demands.
    `tools_called` are the tools to call in each choice, and `answer_schema` what the text must satisfy.
    """

    body: Json
    model: str
    stream: bool
    input_tokens: int
    cached_tokens: int = 0
    max_tokens: int | None = None
    output_tokens: int | None = None
    choices: int = 1
    tools_called: Sequence[Tool] = ()
    answer_schema: Json | None = None
    inputs: Sequence[str] = ()
    """What is to be embedded, one text for each vector."""


@dataclass(slots=True)
class Piece:
    """One output token: a piece of text, or of the arguments of a tool call.

    `part` counts the blocks (text or tool calls) of one choice; a piece may open or close its block.
    """

    text: str
    choice: int = 0
    part: int = 0
    tool: str | None = None
    opens: bool = False
    closes: bool = False


@dataclass(slots=True)
class Answer:
    """A whole answer: its pieces in the order they are streamed, and how each choice ends."""

    id: str
    created_s: int
    ask: Ask
    pieces: list[Piece]
    cut_short: list[bool]
    """For each choice, whether `max_tokens` ended it."""
    seed: int
    events: int = 0
    """How many events were streamed, for dialects that number them."""

    @property
    def output_tokens(self) -> int:
        """Return how many tokens were generated, over all choices."""
        return len(self.pieces)

    def parts(self, choice: int = 0) -> list[tuple[str | None, str]]:
        """Return the blocks of one choice: the tool's name (None for text) and the text of each."""
        blocks: dict[int, list[Any]] = {}
        for piece in self.pieces:
            if piece.choice == choice:
                block = blocks.setdefault(piece.part, [piece.tool, []])
                block[1].append(piece.text)
        return [(tool, "".join(texts)) for tool, texts in blocks.values()]


class Refused(Exception):
    """The vendor refuses a request; each face spells it in its own dialect.

    `kind` is the dialect's error type where it has one name for both, `limit` the label of the limit that
    refused, `retry_after_ns` the time until the request fits, in the client's time.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        type_: str | None = None,
        code: str | None = None,
        param: str | None = None,
        retry_after_ns: int | None = None,
        limit: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.type = type_
        self.code = code
        self.param = param
        self.retry_after_ns = retry_after_ns
        self.limit = limit


class Face(Protocol):
    """One operation in one dialect, between wire and vendor."""

    dialect: str
    id_prefix: str

    def decode(self, body: Json, headers: Mapping[bytes, bytes]) -> Ask:
        """Check a request as the vendor would; raises Refused (400)."""
        ...

    def whole(self, answer: Answer) -> bytes:
        """Return the body of an answer that is not streamed."""
        ...


class StreamingFace(Face, Protocol):
    """A face whose `decode` may return an ask to be streamed."""

    def opening(self, answer: Answer) -> bytes:
        """Return the events before the first token."""
        ...

    def delta(self, answer: Answer, first: int, end: int) -> bytes:
        """Return the events of the pieces [first, end)."""
        ...

    def closing(self, answer: Answer) -> bytes:
        """Return the events after the last token."""
        ...

    def broken(self, error: Json) -> bytes:
        """Return the event of an error within the stream."""
        ...
