"""`dujiang doctor`: what is missing is found before the first call, and no key is ever shown."""

import asyncio
import contextlib
import ssl
from datetime import UTC, datetime
from email.utils import format_datetime

import pytest
import trustme
import yaml
from tests.commands import run, run_beside, written
from tests.gateways import VENDOR_KEY, gateway_config, raw_vendor, running_gateway, simulated_vendor

from dujiang.clock import SECOND, EpochTime, SystemClock
from dujiang.config import parse_config
from dujiang.server.cli.vendor_check import Finding, State, check_vendors

QUICK_NS = SECOND // 5


@pytest.fixture
def path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path / "dujiang.yaml"


def checked(url: str, **settings) -> dict:
    """Return a configuration of one vendor that writes to a file and listens where the system chooses."""
    return gateway_config(url, storage={"url": "sqlite:///dujiang.db"}, **settings)


async def findings_of(config: dict, clock=None, timeout_ns: int = 5 * SECOND) -> list[Finding]:
    return await check_vendors(parse_config(yaml.safe_dump(config), {}), clock or SystemClock(), timeout_ns)


def told(findings: list[Finding]) -> dict[str, tuple[State, str]]:
    return {finding.subject: (finding.state, finding.found) for finding in findings}


class ShiftedClock(SystemClock):
    """A clock that is off by some seconds."""

    def __init__(self, offset_s: float) -> None:
        super().__init__()
        wall = self.wall
        self.wall = lambda: EpochTime(wall() + round(offset_s * SECOND))


def answering(status: str, headers: str = "", *, dated: bool = False):
    """Return a vendor that answers every request alike."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.readuntil(b"\r\n\r\n"):
            date = f"date: {format_datetime(datetime.now(UTC), usegmt=True)}\r\n" if dated else ""
            writer.write(f"HTTP/1.1 {status}\r\ncontent-length: 2\r\n{date}{headers}\r\n{{}}".encode())
            await writer.drain()

    return raw_vendor(answer)


@pytest.mark.parametrize("protocol", ["openai", "anthropic"])
async def test_all_is_well(path, protocol):
    async with simulated_vendor() as (_, url):
        written(path, checked(url, protocol=protocol))
        result = await run_beside("doctor", path)
    lines = [line.split(maxsplit=2) for line in result.output.splitlines()]
    assert [line[:2] for line in lines[:4]] == [
        ["ok", "storage"],
        ["ok", "port"],
        ["ok", "acme"],
        ["ok", "acme/main"],
    ]
    assert "sqlite:///dujiang.db can be written" in result.output
    assert "the key is valid; answer in" in result.output
    assert result.output.endswith("All is well.\n")
    assert VENDOR_KEY not in result.output
    assert [one.name for one in path.parent.iterdir()] == ["dujiang.yaml"], "it leaves nothing behind"


async def test_a_refused_key_is_found_and_not_shown(path):
    async with simulated_vendor(keys=["another-key"]) as (_, url):
        written(path, checked(url))
        result = await run_beside("doctor", path, status=1)
    assert "fail  acme/main" in result.output
    assert "the vendor refuses the key (HTTP 401)" in result.output
    assert "→ put a valid key into the environment variable" in result.output
    assert "Failed: 1; warnings: 0." in result.stderr
    assert VENDOR_KEY not in result.output
    assert "another-key" not in result.output


async def test_each_credential_is_checked():
    async with simulated_vendor(keys=["first-key", "third-key"]) as (_, url):
        config = checked(url, models={})
        config["vendors"]["acme"]["credentials"] = [
            {"name": name, "key": f"{name}-key"} for name in ("first", "second", "third")
        ]
        found = told(await findings_of(config))
    assert found["acme/first"][0] is State.OK
    assert found["acme/second"] == (State.FAIL, "the vendor refuses the key (HTTP 401)")
    assert found["acme/third"][0] is State.OK


async def test_a_vendor_that_is_not_there_is_found(path):
    async with simulated_vendor() as (_, url):
        pass
    written(path, checked(url))
    result = await run_beside("doctor", path, status=1)
    place = url.removeprefix("http://")
    assert f"{place} cannot be reached: Connection refused" in result.output
    assert "→ check vendors.acme.base_url and the firewall; is it started?" in result.output
    assert "acme/main" not in result.output


async def test_a_host_that_does_not_exist_is_found():
    (finding,) = await findings_of(checked("http://vendor.invalid"))
    assert finding.state is State.FAIL
    assert finding.found.startswith("vendor.invalid:80 cannot be reached: ")
    assert finding.remedy == "check the host in vendors.acme.base_url and the DNS of this host"


async def test_a_proxy_that_is_not_there_is_found():
    async with simulated_vendor() as (_, url):
        pass
    (finding,) = await findings_of(checked("http://vendor.example", vendor={"proxy": url}))
    assert finding.state is State.FAIL
    assert finding.found.endswith("Connection refused (through the proxy)")
    assert finding.remedy == "check vendors.acme.proxy, and whether it lets this host through"


@pytest.mark.parametrize("offset_s", [4, 30, -4, -3600])
async def test_a_clock_that_is_off_is_found(offset_s):
    async with answering("200 OK", dated=True) as url:
        finding = (await findings_of(checked(url), ShiftedClock(offset_s)))[-1]
    assert finding.state is State.WARN
    assert finding.subject == "clock (acme)"
    word = "ahead" if offset_s > 0 else "behind"
    seconds = int(finding.found.split()[3])
    assert finding.found == f"this host is {seconds} s {word}"
    assert abs(offset_s) - 2 <= seconds <= abs(offset_s)
    assert finding.remedy.startswith("set the clock (NTP)")


@pytest.mark.parametrize("offset_s", [-1.5, -0.5, 0, 0.5, 1.5])
async def test_a_clock_that_is_nearly_right_is_fine(offset_s):
    async with answering("200 OK", dated=True) as url:
        finding = (await findings_of(checked(url), ShiftedClock(offset_s)))[-1]
    assert (finding.state, finding.subject) == (State.OK, "clock (acme)")


@pytest.mark.parametrize(
    ("status", "state", "found"),
    [
        ("200 OK", State.OK, "the key is valid; answer in"),
        ("403 Forbidden", State.FAIL, "the vendor refuses the key (HTTP 403)"),
        ("404 Not Found", State.WARN, "could not check the key: HTTP 404 from the list of models"),
        ("302 Found", State.WARN, "could not check the key: HTTP 302 from the list of models"),
        ("429 Too Many Requests", State.WARN, "a limit of the account is reached (HTTP 429); answer in"),
        ("500 Internal Server Error", State.WARN, "could not check the key: the vendor is in trouble (HTTP 500)"),
    ],
)
async def test_what_a_vendor_answers_is_understood(status, state, found):
    async with answering(status) as url:
        findings = await findings_of(checked(url))
    assert [one.subject for one in findings] == ["acme", "acme/main"], "without a date, nothing is said of the clock"
    assert findings[1].state is state
    assert findings[1].found.startswith(found)
    assert bool(findings[1].remedy) == (state is not State.OK)


@pytest.mark.parametrize("date", ["yesterday", "Thu, 99 Foo 2026 00:00:00 GMT", ""])
async def test_a_date_that_is_none_is_left_alone(date):
    async with answering("200 OK", f"date: {date}\r\n") as url:
        assert [one.subject for one in await findings_of(checked(url))] == ["acme", "acme/main"]


async def test_a_profile_without_a_list_of_models_is_told(path):
    (path.parent / "acme.yaml").write_text(
        "name: acme\ntitle: Acme\nprotocol: openai\n"
        "sources: [{url: https://docs.acme.example, read: 2026-11-21, what: all}]\n"
        "faces: {openai: {paths: {chat: /chat/completions}}}\n",
        encoding="utf-8",
    )
    left = asyncio.Event()

    async def visited(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            assert await reader.read() == b"", "nothing is asked of it"
        finally:
            left.set()

    async with raw_vendor(visited) as url:
        written(path, checked(url, profile="acme.yaml"))
        result = await run_beside("doctor", path)
        await left.wait()
    assert "warn  acme/main" in result.output
    assert "could not check the key: the profile names no list of models" in result.output
    assert result.output.endswith("Nothing failed; warnings: 1.\n")


async def test_a_vendor_that_says_nothing_is_given_up_in_time():
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with raw_vendor(silent) as url:
        found = told(await findings_of(checked(url), timeout_ns=QUICK_NS))
    assert found["acme"][0] is State.OK
    assert found["acme/main"] == (State.FAIL, "no answer: the vendor did not answer in time")


async def test_what_is_no_http_is_told():
    async def other(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example ESMTP\r\n")
        await reader.read()

    async with raw_vendor(other) as url:
        assert told(await findings_of(checked(url), timeout_ns=SECOND))["acme/main"][0] is State.FAIL


@contextlib.asynccontextmanager
async def secured():
    """Serve a vendor by TLS whose certificate comes from an authority nobody knows; yields port and authority."""
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")
            await reader.read()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
    async with server:
        yield server.sockets[0].getsockname()[1], authority


async def test_a_certificate_nobody_vouches_for_is_found_and_an_authority_of_ones_own_helps(tmp_path):
    async with secured() as (port, authority):
        config = checked(f"https://127.0.0.1:{port}")
        (finding,) = await findings_of(config)
        assert finding.state is State.FAIL
        assert "unable to get local issuer certificate" in finding.found
        assert "vendors.acme.ca_file" in finding.remedy
        authority.cert_pem.write_to_path(tmp_path / "ca.pem")
        config["vendors"]["acme"]["ca_file"] = str(tmp_path / "ca.pem")
        found = told(await findings_of(config))
    assert "TLS connection in" in found["acme"][1]
    assert found["acme/main"][0] is State.OK


async def test_what_a_vendor_lacks_in_the_configuration_is_told():
    config = checked("http://127.0.0.1:1", profile="generic")
    del config["vendors"]["acme"]["base_url"]
    (finding,) = await findings_of(config)
    assert finding.state is State.FAIL
    assert "vendors.acme.base_url" in finding.found
    assert finding.remedy == "`dujiang validate` names what is wrong"


async def test_a_port_that_is_taken_is_found(path):
    async def other(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n")
        await writer.drain()

    async with raw_vendor(other) as url:
        port = int(url.rpartition(":")[2])
        written(path, {"server": {"port": port}})
        result = await run_beside("doctor", path, status=1)
    assert f"fail  port     127.0.0.1:{port} cannot be had: Address already in use" in result.output
    assert "→ end what listens there, or choose another server.host and server.port" in result.output


async def test_the_gateway_itself_may_be_there_already(path):
    config = gateway_config("http://127.0.0.1:1", storage={"url": "sqlite:///dujiang.db"}, vendors={})
    config |= {"models": {}}
    async with running_gateway(config) as gateway:
        written(path, config | {"server": {"port": gateway.port}})
        result = await run_beside("doctor", path)
    assert f"runs at 127.0.0.1:{gateway.port}" in result.output
    assert "none is configured" in result.output


def test_an_address_this_host_does_not_have_is_found(path):
    written(path, {"server": {"host": "192.0.2.1"}, "storage": {"url": "memory://"}})
    result = run("doctor", path, status=1)
    assert "192.0.2.1:8700 cannot be had: Cannot assign requested address" in result.output
    assert "warn  storage  memory:// is lost at exit" in result.output


def test_a_storage_that_cannot_be_written_is_found(path):
    written(path, {"server": {"port": 0}, "storage": {"url": "sqlite:///dujiang.yaml/x.db"}})
    assert "fail  storage" in run("doctor", path, status=1).output


@pytest.mark.parametrize("timeout", ["5", "soon", "0s"])
def test_a_timeout_that_is_none_is_told(path, timeout):
    written(path, {})
    assert "--timeout" in run("doctor", path, "--timeout", timeout, status=2).output


def test_mistakes_in_the_file_come_first(path):
    path.write_text("server: {prot: 1}\n", encoding="utf-8")
    assert "did you mean `port`?" in run("doctor", path, status=2).output
