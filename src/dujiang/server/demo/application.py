"""The application of the demo: the official OpenAI SDK, used as most do, under recorded traffic."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import openai

from dujiang.clock import Clock, Instant, seconds
from dujiang.server.demo.figures import CallSeen, Result
from dujiang.server.demo.prompts import prompt
from dujiang.server.demo.scenario import MODEL, STREAMED_EVERY, Scenario, service_s
from dujiang.simulation.traces import TraceCall


class CompressedOpenAI(openai.AsyncOpenAI):
    """The SDK's client with its own back-off in compressed time, like every other duration of the demo.

    What a server tells it to wait stays as told: the servers of the demo live in compressed time already.
    """

    def __init__(self, speed: float, **options: Any) -> None:
        super().__init__(**options)
        self._speed = speed

    def _calculate_retry_timeout(self, remaining_retries: int, options: Any, response_headers: Any = None) -> float:
        told = self._parse_retry_after_header(response_headers)
        if told is not None and told > 0:
            return super()._calculate_retry_timeout(remaining_retries, options, response_headers)
        return super()._calculate_retry_timeout(remaining_retries, options) / self._speed


@dataclass(slots=True)
class Progress:
    """How far the calls of a run are, for whoever watches."""

    total: int
    sent: int = 0
    answered: int = 0
    late: int = 0
    failed: int = 0

    @property
    def open(self) -> int:
        """Return how many calls the application waits for."""
        return self.sent - self.answered - self.late - self.failed


class Application:
    """Makes the calls of a scenario, each at its time, and remembers how each ended.

    The only thing that differs between the two runs is `base_url` and `api_key`.
    """

    def __init__(self, scenario: Scenario, clock: Clock, base_url: str, api_key: str) -> None:
        self.progress = Progress(len(scenario.calls))
        self.seen: list[CallSeen] = []
        self._scenario = scenario
        self._clock = clock
        self._started = clock.now()
        self._client = CompressedOpenAI(
            scenario.speed,
            base_url=base_url,
            api_key=api_key,
            timeout=scenario.patience_s / scenario.speed,
        )
        # The SDK imports this when it is first used, which would delay the first calls.
        self._completions = self._client.chat.completions

    async def play(self, started: Instant) -> None:
        """Make every call; returns when the last one is over."""
        self._started = started
        async with self._client, asyncio.TaskGroup() as calls:
            for index, call in enumerate(self._scenario.calls):
                due_s = seconds(call.at_ns)
                await asyncio.sleep(max(0.0, due_s - self._elapsed_s()) / self._scenario.speed)
                calls.create_task(self._one(index, call, due_s))

    def _elapsed_s(self) -> float:
        return seconds(self._clock.now() - self._started) * self._scenario.speed

    async def _one(self, index: int, call: TraceCall, due_s: float) -> None:
        self.progress.sent += 1
        try:
            await self._ask(index, call)
            result, reason = Result.ANSWERED, ""
        except openai.APITimeoutError as error:
            result, reason = Result.TIMED_OUT, str(error)
        except openai.RateLimitError as error:
            result, reason = Result.REFUSED, str(error)
        except Exception as error:  # noqa: BLE001 -- whatever broke, the user has no answer; a stream breaks as httpx does
            result, reason = Result.FAILED, f"{type(error).__name__}: {error}"
        vendor_s = service_s(call) if result is Result.ANSWERED else 0.0
        seen = CallSeen(due_s, self._elapsed_s(), result, vendor_s, reason[:200])
        self.seen.append(seen)
        if result is not Result.ANSWERED:
            self.progress.failed += 1
        elif seen.latency_s > self._scenario.patience_s:
            self.progress.late += 1
        else:
            self.progress.answered += 1

    async def _ask(self, index: int, call: TraceCall) -> None:
        """Ask once, as an application would; the simulation headers make the vendor's token counts exact."""
        request: dict[str, Any] = {
            "model": MODEL,
            "messages": [{"role": "user", "content": prompt(call.input_tokens, self._scenario.seed, index)}],
            "extra_headers": {
                "x-simulate-input-tokens": str(max(1, call.input_tokens)),
                "x-simulate-output-tokens": str(max(1, call.output_tokens)),
            },
        }
        if index % STREAMED_EVERY:
            answer = await self._completions.create(**request)
            ended = answer.choices[0].finish_reason
        else:
            ended = None
            async for chunk in await self._completions.create(stream=True, **request):
                if chunk.choices:
                    ended = chunk.choices[0].finish_reason or ended
        if ended is None:
            raise openai.OpenAIError("the answer broke off")
