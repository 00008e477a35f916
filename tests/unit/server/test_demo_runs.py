"""The demo's application and processes: the real SDK against a real vendor, in children that always end."""

import asyncio
import json
import os
import signal
import sys
from collections import Counter
from functools import partial
from pathlib import Path

import openai
import pytest
from tests.simulated import serving

from dujiang.clock import SECOND, SystemClock
from dujiang.server.demo import processes
from dujiang.server.demo.application import Application, CompressedOpenAI
from dujiang.server.demo.figures import Result
from dujiang.server.demo.processes import ChildFailed, free_address, get, running
from dujiang.server.demo.scenario import CONCURRENCY, Scenario, choose
from dujiang.server.demo.settings import VENDOR_KEY, vendor_spec
from dujiang.simulation.spec import VendorSpec
from dujiang.simulation.traces import Trace, TraceCall

SPEED = 10.0


def burst(calls: int, output_tokens: int = 160) -> Scenario:
    trace = Trace("burst", tuple(TraceCall(0, 20, output_tokens) for _ in range(calls)), 100 * SECOND)
    return choose(trace, 1, SPEED)


async def play(scenario: Scenario, base_url: str, key: str = VENDOR_KEY) -> Application:
    clock = SystemClock()
    application = Application(scenario, clock, base_url, key)
    await application.play(clock.now())
    return application


async def test_calls_are_made_with_the_tokens_of_the_trace_streamed_or_not():
    scenario = burst(CONCURRENCY)
    async with serving(VendorSpec.build(vendor_spec(scenario))) as (vendor, address):
        application = await play(scenario, f"{address}/v1")
        statistics = vendor.statistics()
    assert [call.result for call in application.seen] == [Result.ANSWERED] * CONCURRENCY
    assert statistics["tokens"] == {"input": 20 * CONCURRENCY, "cached": 0, "output": 160 * CONCURRENCY}
    assert application.progress.answered == CONCURRENCY
    assert application.progress.open == 0


async def test_a_burst_over_the_slots_meets_429s_and_loses_calls_as_the_sdk_gives_up():
    scenario = burst(4 * CONCURRENCY, output_tokens=800)
    async with serving(VendorSpec.build(vendor_spec(scenario))) as (vendor, address):
        application = await play(scenario, f"{address}/v1")
        statistics = vendor.statistics()
    results = Counter(call.result for call in application.seen)
    assert results[Result.ANSWERED] == CONCURRENCY
    assert results[Result.REFUSED] == 3 * CONCURRENCY
    # Each lost call was refused three times: the first try and the SDK's two retries.
    assert statistics["requests"]["refused"] == 9 * CONCURRENCY
    assert application.progress.failed == 3 * CONCURRENCY
    refused = next(call for call in application.seen if call.result is Result.REFUSED)
    assert "429" in refused.reason
    assert refused.vendor_s == 0


async def test_a_wrong_key_is_a_failure_with_its_reason():
    scenario = burst(1)
    async with serving(VendorSpec.build(vendor_spec(scenario))) as (_, address):
        application = await play(scenario, f"{address}/v1", key="wrong")
    assert application.seen[0].result is Result.FAILED
    assert "AuthenticationError" in application.seen[0].reason


async def test_nobody_there_is_a_failure_too():
    application = await play(burst(1), f"{free_address().url}/v1")
    assert application.seen[0].result is Result.FAILED


async def test_a_stream_that_breaks_off_is_a_failure_and_the_others_go_on():
    scenario = burst(2)
    spec = VendorSpec.build(vendor_spec(scenario) | {"faults": ["cut,requests=1"]})
    async with serving(spec) as (_, address):
        application = await play(scenario, f"{address}/v1")
    assert {call.result for call in application.seen} == {Result.FAILED, Result.ANSWERED}


async def sleeps_of(build, monkeypatch, headers: dict[str, str]) -> list[float]:
    """Return how long a client backs off when every answer is a 429 with these headers."""
    slept: list[float] = []

    async def sleep(duration: float) -> None:
        slept.append(duration)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        await reader.readexactly(int(head.partition(b"content-length:")[2].split()[0]))
        told = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        writer.write(f"HTTP/1.1 429 Too Many Requests\r\nconnection: close\r\ncontent-length: 0\r\n{told}\r\n".encode())
        writer.close()
        await writer.wait_closed()
        closed.release()

    closed = asyncio.Semaphore(0)

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    monkeypatch.setattr("anyio.sleep", sleep)
    async with build(api_key="k", base_url=f"http://127.0.0.1:{port}/v1") as client:
        with pytest.raises(openai.RateLimitError):
            await client.chat.completions.create(model="m", messages=[{"role": "user", "content": "hello"}])
    monkeypatch.undo()
    server.close()
    for _ in range(3):  # one connection a try
        await closed.acquire()
    return slept


async def test_the_sdks_own_back_off_is_compressed_and_nothing_else(monkeypatch):
    plain = await sleeps_of(openai.AsyncOpenAI, monkeypatch, {})
    fast = await sleeps_of(partial(CompressedOpenAI, 10.0), monkeypatch, {})
    # The SDK waits 0.5 s and then 1 s, each up to a quarter less.
    assert [0.375 <= plain[0] <= 0.5, 0.75 <= plain[1] <= 1.0] == [True, True]
    assert [0.0375 <= fast[0] <= 0.05, 0.075 <= fast[1] <= 0.1] == [True, True]


async def test_what_a_server_tells_the_sdk_to_wait_stays(monkeypatch):
    told = {"retry-after-ms": "1234", "retry-after": "2"}
    assert await sleeps_of(partial(CompressedOpenAI, 10.0), monkeypatch, told) == [1.234, 1.234]


SERVER = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = b'{"ok": true}'
        self.send_response(200 if self.path == "/ready" else 404)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args):
        pass
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""
STUBBORN = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + SERVER


def child(tmp_path: Path, monkeypatch, code: str) -> dict:
    script = tmp_path / "child.py"
    script.write_text("import os\nopen('pid', 'w').write(str(os.getpid()))\n" + code)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(processes, "COMMAND", (sys.executable, "-S", str(script)))
    address = free_address()
    return {
        "name": "child",
        "arguments": [str(address.port)],
        "address": address,
        "ready_path": "/ready",
        "log": tmp_path / "log",
        "env": os.environ,
    }


def has_ended(tmp_path: Path) -> bool:
    try:
        os.kill(int((tmp_path / "pid").read_text()), 0)
    except ProcessLookupError:
        return True
    return False


async def test_a_child_runs_while_the_block_lasts(tmp_path, monkeypatch):
    settings = child(tmp_path, monkeypatch, SERVER)
    async with running(**settings):
        assert json.loads(await get(settings["address"], "/ready")) == {"ok": True}
        with pytest.raises(ValueError, match="404"):
            await get(settings["address"], "/other")
        assert not has_ended(tmp_path)
    assert has_ended(tmp_path)


async def test_a_child_is_stopped_when_the_block_fails(tmp_path, monkeypatch):
    with pytest.raises(RuntimeError, match="on purpose"):
        async with running(**child(tmp_path, monkeypatch, SERVER)):
            raise RuntimeError("on purpose")
    assert has_ended(tmp_path)


@pytest.mark.parametrize("code", [SERVER, STUBBORN])
async def test_a_child_is_stopped_when_the_task_is_cancelled_even_twice(tmp_path, monkeypatch, code):
    entered = asyncio.Event()

    async def block() -> None:
        async with running(**child(tmp_path, monkeypatch, code)):
            entered.set()
            await asyncio.Event().wait()

    task = asyncio.ensure_future(block())
    await entered.wait()
    task.cancel()
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert has_ended(tmp_path)


async def test_a_child_that_ends_early_is_reported_with_its_last_words(tmp_path, monkeypatch):
    settings = child(tmp_path, monkeypatch, "import sys\nsys.exit('no such setting: colour')\n")
    with pytest.raises(ChildFailed, match="no such setting: colour"):
        async with running(**settings):
            pytest.fail("entered although the child ended")


async def kill(tmp_path: Path) -> None:
    pid = int((tmp_path / "pid").read_text())
    os.kill(pid, signal.SIGKILL)
    while not has_ended(tmp_path):
        await asyncio.sleep(0.01)


async def test_a_child_that_dies_in_the_block_is_reported_whether_the_block_minds_or_not(tmp_path, monkeypatch):
    settings = child(tmp_path, monkeypatch, "print('my last words', flush=True)\n" + SERVER)
    with pytest.raises(ChildFailed, match="my last words"):
        async with running(**settings):
            await kill(tmp_path)
    with pytest.raises(ChildFailed, match="my last words") as caught:
        async with running(**settings):
            await kill(tmp_path)
            await get(settings["address"], "/ready")
    assert isinstance(caught.value.__cause__, OSError)


async def test_a_child_that_never_gets_ready_is_given_up_and_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "START_WITHIN_S", 0.3)
    settings = child(tmp_path, monkeypatch, "import time\ntime.sleep(60)\n")
    with pytest.raises(ChildFailed):
        async with running(**settings):
            pytest.fail("entered although the child is silent")
    assert has_ended(tmp_path)
