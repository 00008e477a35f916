"""The callers of a soak: every kind of call, clients that leave, clients that err, all by one seed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx

from bench.soak.site import TENANT_KEYS

_WORDS = ("river", "water", "field", "gate", "spring", "stone", "bamboo", "market", "lantern", "ferry", "harvest")
_CHINESE = "都江堰水利工程位于四川成都平原西部岷江上，始建于秦昭王末年，至今仍灌溉着千里沃野。"
_LEAVES = 0.08
_OPEN_MOST = 400


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of call: how often, where to, and what it sends."""

    name: str
    weight: int
    path: str
    body: Callable[[random.Random], dict[str, Any] | bytes]
    wrong_key: bool = False


def _text(chance: random.Random) -> str:
    words = " ".join(chance.choices(_WORDS, k=chance.randint(5, 300)))
    return words + _CHINESE * chance.randint(0, 4)


def _chat(model: str, **fields: Any) -> Callable[[random.Random], dict[str, Any]]:
    def body(chance: random.Random) -> dict[str, Any]:
        return {"model": model, "messages": [{"role": "user", "content": _text(chance)}], **fields}

    return body


def _responses(chance: random.Random) -> dict[str, Any]:
    return {"model": "assistant", "input": _text(chance), "stream": chance.random() < 0.5}


def _embeddings(chance: random.Random) -> dict[str, Any]:
    return {"model": "assistant", "input": [_text(chance) for _ in range(chance.randint(1, 8))]}


def _stranger(chance: random.Random) -> dict[str, Any]:
    return {"model": f"model-{chance.getrandbits(64):x}", "messages": [{"role": "user", "content": "?"}]}


_CHAT, _MESSAGES = "/v1/chat/completions", "/v1/messages"
KINDS = (
    Kind("chat", 26, _CHAT, _chat("assistant")),
    Kind("chat, weighted", 8, _CHAT, _chat("spread", max_tokens=60)),
    Kind("stream", 24, _CHAT, _chat("assistant", stream=True)),
    Kind("stream with usage", 6, _CHAT, _chat("spread", stream=True, stream_options={"include_usage": True})),
    Kind("messages", 6, _MESSAGES, _chat("thinker", max_tokens=100)),
    Kind("messages stream", 6, _MESSAGES, _chat("thinker", max_tokens=100, stream=True)),
    Kind("messages, translated", 4, _MESSAGES, _chat("assistant", max_tokens=100, stream=True)),
    Kind("chat, translated", 4, _CHAT, _chat("thinker", stream=True)),
    Kind("responses", 5, "/v1/responses", _responses),
    Kind("embeddings", 6, "/v1/embeddings", _embeddings),
    Kind("unknown model", 2, _CHAT, _stranger),
    Kind(
        "broken JSON", 1, _CHAT, lambda chance: b'{"model": "assistant", "messages": [' + b"[" * chance.randint(0, 99)
    ),
    Kind("wrong type", 1, _CHAT, lambda _: {"model": "assistant", "messages": 7}),
    Kind("wrong key", 1, _CHAT, _chat("assistant"), wrong_key=True),
)


class Traffic:
    """Calls that come at random instants, `rate` a second on average, until `stop`."""

    def __init__(self, url: str, rate: float, seed: int) -> None:
        self.tally: Counter[tuple[str, str]] = Counter()
        """Calls by kind and by how they ended: a status, `left` (by the caller), `lost` (the connection)."""
        self.turned_away = 0
        """Calls that were not made because too many were open."""
        self._url = url
        self._rate = rate
        self._chance = random.Random(seed)  # noqa: S311 - a simulation, nothing secret
        self._open: set[asyncio.Task[None]] = set()

    async def run(self, seconds: float) -> None:
        """Call for so long, and wait for the last answer."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        due = loop.time()
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=40)
        async with httpx.AsyncClient(base_url=self._url, limits=limits, timeout=60, trust_env=False) as client:
            while (due := due + self._chance.expovariate(self._rate)) < end:
                await asyncio.sleep(max(due - loop.time(), 0))
                if len(self._open) >= _OPEN_MOST:
                    self.turned_away += 1
                    continue
                task = loop.create_task(self._half_a_request() if self._chance.random() < 0.01 else self._call(client))
                self._open.add(task)
                task.add_done_callback(self._open.discard)
            if self._open:
                await asyncio.wait(self._open)

    async def _call(self, client: httpx.AsyncClient) -> None:
        chance = self._chance
        (kind,) = chance.choices(KINDS, [kind.weight for kind in KINDS])
        key = "dj-soak-nobody-0000000000000000" if kind.wrong_key else chance.choice(list(TENANT_KEYS.values()))
        headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
        if kind.path == _MESSAGES:
            headers["anthropic-version"] = "2023-06-01"
        if chance.random() < 0.1:
            headers["connection"] = "close"
        body = kind.body(chance)
        sent = body if isinstance(body, bytes) else json.dumps(body).encode()
        leaves_after_s = chance.uniform(0, 0.5) if chance.random() < _LEAVES else None
        try:
            async with asyncio.timeout(leaves_after_s):
                async with client.stream("POST", kind.path, headers=headers, content=sent) as answer:
                    async for _ in answer.aiter_raw():
                        pass
            ended = str(answer.status_code)
        except TimeoutError:
            ended = "left"
        except httpx.HTTPError as error:
            ended = f"lost: {type(error).__name__}"
        self.tally[kind.name, ended] += 1

    async def _half_a_request(self) -> None:
        """Send the beginning of a request, and leave."""
        address = httpx.URL(self._url)
        whole = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 900\r\n\r\n{" + b" " * 100
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection(address.host, address.port)
            writer.write(whole[: self._chance.randint(0, len(whole))])
            await asyncio.sleep(self._chance.uniform(0, 2))
            writer.close()
            await writer.wait_closed()
        self.tally["half a request", "left"] += 1
