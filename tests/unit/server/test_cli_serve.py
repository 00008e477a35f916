"""`dujiang serve`: what keeps the gateway from starting is told like a mistake in the configuration, with a remedy."""

import asyncio

import pytest
from tests.commands import run, run_process, written
from tests.gateways import raw_vendor


@pytest.fixture
def path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path / "dujiang.yaml"


def test_every_mistake_is_told(path):
    path.write_text("server: {prot: 1}\nmodel: {}\n", encoding="utf-8")
    assert run("serve", status=2).stderr.splitlines() == [
        "dujiang.yaml:1: server.prot: unknown key; did you mean `port`?",
        "dujiang.yaml:2: model: unknown key; did you mean `models`?",
        "2 mistakes; nothing was done.",
    ]


def test_a_file_that_is_not_there_is_told(path):
    assert (
        "other.yaml: No such file or directory; `dujiang init` writes a file"
        in run("serve", "--config", "other.yaml", status=2).stderr
    )


async def test_an_address_in_use_is_told(path):
    async def other(reader, writer) -> None:
        await reader.read()

    async with raw_vendor(other) as url:
        written(path, {"server": {"port": int(url.rpartition(":")[2])}, "storage": {"url": "memory://"}})
        told = (await asyncio.to_thread(run_process, "serve", status=1)).stderr
    assert told == ("The gateway cannot start: Address already in use. `dujiang doctor dujiang.yaml` finds out more.\n")


def test_a_vendor_that_cannot_be_reached_by_its_configuration_is_told(path):
    vendor = {"protocol": "openai", "profile": "generic", "credentials": [{"name": "main", "key": "k"}]}
    written(path, {"server": {"port": 0}, "storage": {"url": "memory://"}, "vendors": {"acme": vendor}})
    told = run_process("serve", status=1).stderr
    assert told.startswith("The gateway cannot start: vendors.acme.base_url: the profile 'generic' has none")


def test_how_the_gateway_ends_is_how_the_program_ends(path, monkeypatch):
    seen = []

    def ended_with(status: int):
        def serve(config_path):
            seen.append(str(config_path))
            return status

        monkeypatch.setattr("dujiang.server.serve.serve", serve)

    ended_with(0)
    run("serve")
    ended_with(3)
    run("serve", "--config", "other.yaml", status=3)
    assert seen == ["dujiang.yaml", "other.yaml"]
