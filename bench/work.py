"""The work every gateway is given: a chat call of 929 bytes, its answer, and a stream of 50 chunks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

MODEL = "gpt-4o-mini"
VENDOR_KEY = "sk-vendor-4f1c9a7e2b8d6350"
TENANT_KEY = "sk-tenant-b7d20c5e9f3a4681"
BODY_BYTES = 929
ANSWER_BYTES = 1468
CHUNKS = 50
EVENTS = CHUNKS + 2
"""What one stream carries: its chunks, the usage, and the closing mark."""
PACE_MS = 20

_DIALOGUE = [
    ("system", "You help the guests of a tea house. Answer in two short sentences and name every price in yuan."),
    ("user", "Good afternoon. Which green tea is mild enough for the whole family?"),
    ("assistant", "A Longjing of the second picking is mild and sweet. 100 g of it cost 88 yuan."),
    ("user", "And which of your teapots would go with it? We are four, and one of us is left-handed."),
]


def _filled(text: str, missing: int) -> str:
    """Return the text grown by a number of bytes, in words."""
    if missing < 0:
        raise ValueError(f"the text is {-missing} bytes too long already")
    filler = " Please take your time and tell us what you would choose yourself."
    return text + (filler * (missing // len(filler) + 1))[:missing]


def _encoded(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def call_body(*, stream: bool) -> bytes:
    """Return the body of the call; 929 bytes, or some more when it asks for a stream with usage."""
    messages = [{"role": role, "content": text} for role, text in _DIALOGUE]
    call: dict[str, Any] = {"model": MODEL, "temperature": 0.7, "max_tokens": 256, "messages": messages}
    messages[-1]["content"] = _filled(messages[-1]["content"], BODY_BYTES - len(_encoded(call)))
    if stream:
        call |= {"stream": True, "stream_options": {"include_usage": True}}
    return _encoded(call)


def _usage() -> dict[str, int]:
    return {"prompt_tokens": 212, "completion_tokens": CHUNKS, "total_tokens": 212 + CHUNKS}


def answer_body() -> bytes:
    """Return what the vendor answers to a call that is not streamed; 1,468 bytes."""
    message = {"role": "assistant", "content": "A pot of 600 ml with a straight handle suits all four of you."}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    answer: dict[str, Any] = {"id": "chatcmpl-8f2b6c1d", "object": "chat.completion", "created": 1760000000}
    answer |= {"model": MODEL, "choices": [choice], "usage": _usage(), "system_fingerprint": "fp_5b2e"}
    message["content"] = _filled(message["content"], ANSWER_BYTES - len(_encoded(answer)))
    return _encoded(answer)


def stream_events() -> bytes:
    """Return the events of a streamed answer, each closed by an empty line."""
    head = {"id": "chatcmpl-8f2b6c1d", "object": "chat.completion.chunk", "created": 1760000000, "model": MODEL}

    def chunk(index: int) -> dict[str, Any]:
        delta = {"content": f" word{index:02d}"} if index else {"role": "assistant", "content": "A"}
        return {"index": 0, "delta": delta, "finish_reason": "stop" if index == CHUNKS - 1 else None}

    events = [head | {"choices": [chunk(index)], "usage": None} for index in range(CHUNKS)]
    events.append(head | {"choices": [], "usage": _usage()})
    return b"".join(b"data: %b\n\n" % line for line in [*map(_encoded, events), b"[DONE]"])


def request(body: bytes, headers: dict[str, str], path: str = "/v1/chat/completions") -> bytes:
    """Return a whole HTTP/1.1 request, as it goes over the wire."""
    fields = {"host": "127.0.0.1", "content-type": "application/json", "content-length": str(len(body))}
    lines = [f"POST {path} HTTP/1.1", *(f"{name}: {value}" for name, value in (fields | headers).items())]
    return "\r\n".join([*lines, "", ""]).encode() + body


def bearer_request(key: str, *, stream: bool) -> bytes:
    """Return the call as most gateways want it: a bearer key and nothing else of their own."""
    return request(call_body(stream=stream), {"authorization": f"Bearer {key}"})


def lay_out(folder: Path) -> tuple[Path, Path]:
    """Write the answer and the events for the upstream program, and return both paths."""
    answer, events = folder / "answer.json", folder / "events.txt"
    answer.write_bytes(answer_body())
    events.write_bytes(stream_events())
    return answer, events
