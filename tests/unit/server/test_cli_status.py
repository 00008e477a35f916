"""`dujiang status`: what the gateway that runs is doing, or a plain word why that cannot be seen."""

import asyncio
import io
import json
import re

import msgspec
import pytest
from rich.console import Console
from tests.commands import run, run_beside, written
from tests.gateways import gateway_config, raw_vendor, running_gateway

from dujiang.config import parse_config
from dujiang.server.cli import status as verb
from dujiang.server.cli.gateway_status import (
    DeploymentState,
    GatewayStatus,
    LimitState,
    QueueState,
    Records,
    Unreachable,
    ask_status,
    gateway_url,
    read_status,
    token_of,
)
from dujiang.server.cli.status_view import status_view

LIMIT = LimitState("vendor acme/main requests/60s", "vendor", "requests", 60.0, 60, 30, 4, 42.4)
STATUS = GatewayStatus(
    version="1.2.3",
    started_at=1_700_000_000,
    worker=1,
    workers=4,
    draining=True,
    in_flight=7,
    waiting=3,
    held=5,
    connections=9,
    records=Records(pending=2, written=1_234, dropped=6),
    limits=[LIMIT, LimitState("tenant shop concurrency", "tenant", "concurrency", None, 5, 5, 5, None)],
    queues=[QueueState("assistant", realtime=1, interactive=0, standard=2, batch=40, oldest_s=200.2)],
    deployments=[DeploymentState("acme/main/m", 12.3), DeploymentState("acme/spare/m", 0.0)],
)


@pytest.fixture
def path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path / "dujiang.yaml"


def shown(status: GatewayStatus, width: int = 120) -> str:
    screen = io.StringIO()
    Console(file=screen, width=width).print(status_view(status, "http://127.0.0.1:8700"))
    return screen.getvalue()


def test_all_is_shown():
    text = shown(STATUS)
    lines = [re.split(r"\s{2,}", line.strip()) for line in text.splitlines()]
    assert lines[0][:2] == ["Dujiang 1.2.3", "http://127.0.0.1:8700"]
    assert lines[0][3:] == ["worker 2 of 4", "draining"]
    assert lines[1] == ["in flight 7", "waiting 3", "held 5", "connections 9", "records 2 pending, 1,234 written"]
    assert lines[2] == ["records lost to overload: 6"]
    requests = next(line for line in lines if line[0].startswith("vendor acme/main requests/60s"))
    assert requests[-3:] == ["30 / 60", "4", "42 s"]
    slots = next(line for line in lines if line[0].startswith("tenant shop concurrency"))
    assert slots[-2:] == ["5 / 5", "5"]
    assert ["assistant", "1", "0", "2", "40", "3 min 20 s"] in lines
    assert ["acme/main/m", "paused for 12 s"] in lines
    assert ["acme/spare/m", "in use"] in lines


@pytest.mark.parametrize(("used", "cells"), [(0, 0), (1, 1), (15, 5), (30, 10), (59, 19), (60, 20), (75, 20)])
def test_a_bar_is_as_long_as_its_use(used, cells):
    limit = msgspec.structs.replace(LIMIT, used=used)
    assert f" {'█' * cells}{'░' * (20 - cells)} " in shown(msgspec.structs.replace(STATUS, limits=[limit]))


def test_in_a_narrow_terminal_only_names_are_broken_over_lines():
    text = shown(STATUS, width=70)
    assert max(len(line) for line in text.splitlines()) <= 70
    assert f"{'█' * 10}{'░' * 10}  30 / 60" in text
    assert "42 s" in text


def test_a_gateway_without_limits_or_calls_is_shown():
    empty = msgspec.structs.replace(
        STATUS, limits=[], queues=[], deployments=[], records=Records(0, 0, 0), draining=False, workers=1
    )
    text = shown(empty)
    assert "No limit is configured." in text
    assert "lost" not in text
    assert "worker" not in text


async def test_a_gateway_that_runs_is_seen(path):
    limits = [{"dimension": "requests", "window": "60s", "value": 60}]
    config = gateway_config("http://127.0.0.1:1", vendor_limits=limits, storage={"url": "sqlite:///dujiang.db"})
    async with running_gateway(config) as gateway:
        written(path, config | {"server": {"port": gateway.port}})
        output = (await run_beside("status")).output
        same = (await run_beside("status", "--once", "--url", f"{gateway.base_url}/")).output
        told = json.loads((await run_beside("status", "--json")).output)
    assert f"http://127.0.0.1:{gateway.port}" in output
    assert f"{told['limits'][0]['name']}  {'░' * 20}  0 / 60" in output
    assert told["limits"][0]["name"].startswith("vendor acme/main requests/")
    assert "acme/main/m" in output
    assert "in use" in output
    assert output.splitlines()[1:] == same.splitlines()[1:]
    assert told["limits"][0]["limit"] == 60
    assert read_status(json.dumps(told).encode(), "").workers == 1


async def test_a_gateway_of_another_pepper_is_not_seen(path):
    config = gateway_config("http://127.0.0.1:1", server={"pepper": "one"})
    async with running_gateway(config) as gateway:
        written(path, config | {"server": {"port": gateway.port, "pepper": "another"}})
        result = await run_beside("status", status=1)
    assert f"The gateway at http://127.0.0.1:{gateway.port} has another pepper" in result.stderr
    assert result.stdout == ""


def test_where_nothing_answers_it_is_told(path):
    written(path, {"server": {"port": 9, "pepper": "p"}})
    told = run("status", status=1).stderr
    assert "Nothing answers at http://127.0.0.1:9 (Connection refused). Start the gateway with `dujiang serve`" in told


def test_where_no_gateway_was_started_it_is_told_and_nothing_is_made(path):
    written(path, {})
    assert "dujiang.pepper is not there: no gateway was started from this folder yet" in run("status", status=1).stderr
    assert [one.name for one in path.parent.iterdir()] == ["dujiang.yaml"]


def test_with_memory_only_a_configured_pepper_opens(path):
    written(path, {"storage": {"url": "memory://"}})
    assert "set server.pepper or a storage file" in run("status", status=1).stderr


def test_a_pepper_that_cannot_be_read_is_told(path):
    written(path, {})
    (path.parent / "dujiang.pepper").mkdir()
    assert "dujiang.pepper cannot be read: Is a directory; run this as the user" in run("status", status=1).stderr


@pytest.mark.parametrize("url", ["127.0.0.1:8700", "ftp://x", "http://"])
def test_an_address_that_is_none_is_told(path, url):
    written(path, {"server": {"pepper": "p"}})
    assert "is no http:// or https:// address; correct --url." in run("status", "--url", url, status=1).stderr


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n", "has no status (HTTP 404); is it Dujiang?"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}", "tells no status this version understands"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n\xff\xff", "tells no status this version understands"),
        (b"SSH-2.0-OpenSSH\r\n", "Nothing answers at"),
        (b"", "Nothing answers at"),
    ],
)
async def test_something_else_there_is_told(path, answer, told):
    async def other(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()

    async with raw_vendor(other) as url:
        written(path, {"server": {"pepper": "p"}})
        assert told in (await run_beside("status", "--url", url, status=1)).stderr


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:8700"),
        ("0.0.0.0", "http://127.0.0.1:8700"),
        ("::", "http://[::1]:8700"),
        ("fd00::1", "http://[fd00::1]:8700"),
        ("gateway.example", "http://gateway.example:8700"),
    ],
)
def test_the_address_follows_from_the_configuration(host, url):
    assert gateway_url(parse_config(json.dumps({"server": {"host": host}}), {})) == url


async def test_it_is_refreshed_until_ctrl_c_and_waits_for_a_gateway_that_falls_silent(monkeypatch):
    """Each look is one second later; here the seconds are counted instead of waited for."""
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=100, height=40, color_system=None)
    waits: list[float] = []

    def wait(wait_s: float) -> None:
        waits.append(wait_s)
        if len(waits) == 4:
            raise KeyboardInterrupt

    def ask(*arguments) -> bytes:
        if len(waits) == 1:
            raise Unreachable("nobody there")
        return ask_status(*arguments)

    monkeypatch.setattr(verb.time, "sleep", wait)
    monkeypatch.setattr("dujiang.server.cli.gateway_status.ask_status", ask)
    config = gateway_config("http://127.0.0.1:1", server={"pepper": "p"})
    token = token_of(parse_config(json.dumps(config), {}))
    async with running_gateway(config) as gateway:
        await asyncio.to_thread(verb._watch, console, gateway.base_url, token)
    assert waits == [1.0] * 4
    assert screen.getvalue().count("No limit is configured.") == 3
    assert screen.getvalue().count("nobody there") == 1
