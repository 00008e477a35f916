"""`dujiang keys`: a secret is shown once, kept as a hash, works at a gateway that runs, and stops when revoked."""

import asyncio
import http.client
import json
import re
import sqlite3

import pytest
from tests.commands import run, run_beside, written
from tests.gateways import running_gateway, until

from dujiang.accounts.keys import digest
from dujiang.clock import SECOND, SystemClock
from dujiang.config import load_config
from dujiang.server.pepper import load_pepper
from dujiang.storage.sqlite import SqliteStore

SECRET = re.compile(r"dj-[A-Za-z0-9]{43}")


def config(**changes) -> dict:
    return {
        "server": {"port": 0},
        "storage": {"url": "sqlite:///dujiang.db"},
        "telemetry": {"log_calls": False},
        "vendors": {
            "acme": {
                "protocol": "openai",
                "base_url": "http://127.0.0.1:1/v1",
                "credentials": [{"name": "main", "key": "vendor-key"}],
            }
        },
        "models": {
            name: {
                "aliases": [f"{name}-latest"],
                "deployments": [{"vendor": "acme", "credential": "main", "model": "m"}],
            }
            for name in ("assistant", "writer")
        },
        "plans": {"starter": {}},
        "tenants": [
            {
                "id": "shop",
                "plan": "starter",
                "keys": [{"name": "dev", "secret": "secret-of-dev-0001"}],
                "projects": [{"id": "kiosk"}],
            }
        ],
        **changes,
    }


@pytest.fixture
def path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return written(tmp_path / "dujiang.yaml", config())


def create(*arguments: object) -> dict:
    return json.loads(run("keys", "create", "--tenant", "shop", "--json", *arguments).stdout)


def test_a_secret_is_shown_once_and_kept_as_a_hash(path):
    result = run("keys", "create", "--tenant", "shop")
    (secret,) = SECRET.findall(result.stdout)
    assert "This secret is not shown again" in result.stderr
    assert secret not in result.stderr
    listed = run("keys", "list").output + run("keys", "list", "--json").output
    assert "dj-" not in listed
    for file in path.parent.iterdir():
        assert secret.encode() not in file.read_bytes()
    loaded = load_config(path)
    store = SqliteStore(loaded.storage.url)
    (key,) = store.keys()
    store.close()
    assert key.digest == digest(secret.encode(), load_pepper(loaded))
    assert key.id in result.stdout
    assert (key.tenant, key.project, key.name, key.models, key.expires_at) == ("shop", "default", key.id, (), None)


def test_every_key_is_another(path):
    made = [create() for _ in range(5)]
    assert len({one["id"] for one in made}) == len({one["secret"] for one in made}) == 5


def test_all_that_can_be_said_of_a_key_is_kept(path):
    before = SystemClock().wall()
    made = create(
        "--project", "kiosk", "--name", "till", "--expires", "30d", "--models", "writer, assistant-latest,writer"
    )
    assert made["models"] == ["writer", "assistant-latest"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", made["expires"])
    store = SqliteStore("sqlite:///dujiang.db")
    (key,) = store.keys()
    store.close()
    assert (key.project, key.name, key.models) == ("kiosk", "till", ("writer", "assistant-latest"))
    lifetime_ns = key.expires_at - key.created_at
    assert lifetime_ns == 30 * 86_400 * SECOND
    assert before <= key.created_at <= SystemClock().wall()
    (configured, listed) = json.loads(run("keys", "list", "--json").output)
    assert listed == {name: value for name, value in made.items() if name != "secret"}
    assert configured["id"] == "shop/default/dev"
    assert configured["configured"] is True


def test_all_keys_are_listed_also_revoked_ones(path):
    revoked, kept = create("--name", "old"), create("--name", "new")
    run("keys", "revoke", revoked["id"])
    header, *rows = run("keys", "list").output.splitlines()
    assert header.split() == ["id", "tenant", "project", "name", "created", "expires", "revoked"]
    cells = [re.split(r"\s{2,}", row.strip()) for row in rows]
    assert cells[0] == ["shop/default/dev", "shop", "default", "dev", "in the configuration", "–", "–"]
    assert cells[1][:4] == [revoked["id"], "shop", "default", "old"]
    assert cells[1][6].endswith("Z")
    assert cells[2] == [kept["id"], "shop", "default", "new", kept["created"], "–", "–"]


def test_a_name_that_is_taken_is_refused_until_its_key_is_revoked(path):
    made = create("--name", "till")
    told = run("keys", "create", "--tenant", "shop", "--name", "till", status=2).output
    assert f"The name 'till' is taken by {made['id']}; choose another." in told
    assert "taken by shop/default/dev" in run("keys", "create", "--tenant", "shop", "--name", "dev", status=2).output
    create("--name", "till", "--project", "kiosk")
    run("keys", "revoke", made["id"])
    create("--name", "till")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--tenant", "shoe"], "There is no tenant 'shoe' in dujiang.yaml; there are: shop."),
        (["--tenant", "shop", "--project", "bar"], "The tenant shop has no project 'bar'; it has: default, kiosk."),
        (
            ["--tenant", "shop", "--models", "assistant,poet"],
            "There is no model 'poet'; there are: assistant, assistant-latest, writer, writer-latest.",
        ),
        (["--tenant", "shop", "--models", ""], "There is no model ''"),
        (["--tenant", "shop", "--expires", "soon"], "--expires: 'soon' is not a duration; write for example 500ms"),
        (["--tenant", "shop", "--expires", "0s"], "--expires must be longer than nothing; write for example 30d."),
        (["--tenant", "shop", "--name", "a b"], "'a b' is no name; use letters, digits"),
    ],
)
def test_what_cannot_be_is_told_and_nothing_is_made(path, arguments, told):
    result = run("keys", "create", *arguments, status=2)
    assert told in result.stderr
    assert not SECRET.search(result.output)
    assert all(key["configured"] for key in json.loads(run("keys", "list", "--json").output))


def test_keys_need_a_file(path):
    written(path, config(storage={"url": "memory://"}))
    for arguments in (["create", "--tenant", "shop"], ["revoke", "key_x"]):
        told = run("keys", *arguments, status=2).stderr
        assert "Keys are kept in a file, but storage is memory://; set storage.url" in told
    assert "shop/default/dev" in run("keys", "list").output


def test_a_file_that_is_no_database_is_told(path):
    (path.parent / "dujiang.db").write_text("hello, I am some text that is longer than a header" * 40, encoding="utf-8")
    for arguments in (["create", "--tenant", "shop"], ["list"], ["revoke", "key_x"]):
        assert "dujiang.db cannot be used: file is not a database" in run("keys", *arguments, status=1).stderr


def test_listing_makes_no_database(path):
    run("keys", "list")
    assert [one.name for one in path.parent.iterdir()] == ["dujiang.yaml"]
    written(path, config(tenants=[]))
    assert run("keys", "list").output == "There is no key; `dujiang keys create` makes one.\n"


def test_only_a_key_in_use_can_be_revoked(path):
    made = create()
    assert run("keys", "revoke", made["id"]).output == f"{made['id']} is revoked.\n"
    assert f"There is no key {made['id']} in use" in run("keys", "revoke", made["id"], status=1).stderr
    assert "There is no key key_x in use" in run("keys", "revoke", "key_x", status=1).stderr


def test_a_configured_key_is_revoked_where_it_stands(path):
    told = run("keys", "revoke", "shop/default/dev", status=1).stderr
    assert "shop/default/dev stands in the configuration; remove it from dujiang.yaml" in told


def test_mistakes_in_the_configuration_come_first(path):
    path.write_text("tenants: [{id: shop}]\n", encoding="utf-8")
    for arguments in (["create", "--tenant", "shop"], ["list"], ["revoke", "x"]):
        assert "dujiang.yaml:1: tenants[0].plan: is missing" in run("keys", *arguments, status=2).stderr


async def test_a_key_works_at_a_gateway_that_runs_until_it_is_revoked(path, monkeypatch):
    monkeypatch.setattr("dujiang.server.app._KEYS_LOOK_S", 0.01)

    def models_as(secret: str) -> tuple[int, list[str]]:
        connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=5)
        connection.request("GET", "/v1/models", headers={"authorization": f"Bearer {secret}"})
        answer = connection.getresponse()
        body = json.loads(answer.read())
        connection.close()
        return answer.status, [model["id"] for model in body.get("data", [])]

    async with running_gateway(config()) as gateway:
        made = await run_beside("keys", "create", "--tenant", "shop", "--models", "writer", "--json")
        key = json.loads(made.stdout)
        keys = gateway.gateway.keys
        await until(lambda: len(keys._by_digest) == 2)
        assert await asyncio.to_thread(models_as, key["secret"]) == (200, ["writer", "writer-latest"])
        await run_beside("keys", "revoke", key["id"])
        await until(lambda: len(keys._by_digest) == 1)
        assert (await asyncio.to_thread(models_as, key["secret"]))[0] == 401


def test_two_may_make_keys_at_once(path):
    create()
    database = sqlite3.connect("dujiang.db", isolation_level=None)
    try:
        database.execute("SELECT count(*) FROM keys").fetchone()
        create()
        assert database.execute("SELECT count(*) FROM keys").fetchone() == (2,)
    finally:
        database.close()
