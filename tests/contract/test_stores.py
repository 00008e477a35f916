"""Every store keeps keys and records alike; what only a file can do is asked of the file."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import textwrap
from pathlib import Path

import msgspec
import pytest

from dujiang.accounts.keys import Key, digest, new_secret
from dujiang.clock import EpochTime
from dujiang.config import parse_config
from dujiang.metering.record import Attempt, Durations, Outcome, Record, Stamps
from dujiang.metering.usage_report import UsageRow
from dujiang.storage.sqlite import SqliteStore, StoreUnusable, database_path
from dujiang.terms import KeyId, ProjectId, TenantId

PEPPER = b"p" * 32


@pytest.fixture(name="url", params=["file", "memory"])
def _url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/deep/er/dujiang.db" if request.param == "file" else "memory://"


@pytest.fixture(name="store")
def _store(url: str):
    store = SqliteStore(url)
    yield store
    store.close()


def key(number: int, secret: str = "", **changes) -> Key:
    made = Key(
        id=KeyId(f"key_{number}"),
        tenant=TenantId("shop"),
        project=ProjectId("default"),
        name=f"name {number}",
        digest=digest((secret or f"secret {number}").encode(), PEPPER),
        created_at=EpochTime(1_000 + number),
    )
    return msgspec.structs.replace(made, **changes)


def record(request_id: str, **changes) -> Record:
    made = Record(
        request_id=request_id,
        at=EpochTime(1_750_000_000_000_000_000),
        tenant="shop",
        project="default",
        key="shop/default/dev",
        operation="chat",
        dialect="chat",
        model="assistant",
        priority="interactive",
        stream=True,
        deployment="acme/main/gpt",
        vendor_model="gpt",
        vendor_request_id="req_ü",
        attempts=(Attempt("acme/main/gpt", "rate", 429, 5), Attempt("acme/main/gpt", "ok", 200, 7)),
        outcome=Outcome.OK,
        owner="vendor",
        status=200,
        error=None,
        waited_for="vendor:requests",
        estimated_input_tokens=11,
        estimated_output_tokens=12,
        input_tokens=13,
        output_tokens=14,
        cached_tokens=3,
        usage_source="vendor",
        reserved_tokens=23,
        extended_tokens=4,
        saved_tokens=0,
        cache="none",
        request_bytes=99,
        answer_bytes=101,
        fingerprint="aa",
        normalised_fingerprint="bb",
        end_user="cc",
        tags={"team": "客服"},
        wall_ns=28,
        durations=Durations(1, 2, 3, 4, 5, 6, 7),
        stamps=Stamps(body=1, settled=28),
    )
    return msgspec.structs.replace(made, **changes)


def test_keys_are_kept_listed_and_revoked_once(store: SqliteStore) -> None:
    assert store.keys() == []
    first, second = key(1), key(2, expires_at=EpochTime(99), models=("a", "b"))
    assert store.keys_revision() == 0
    store.add_key(second)
    store.add_key(first)
    assert store.keys() == [first, second]
    revision = store.keys_revision()
    assert revision == 2
    assert store.revoke_key(first.id, EpochTime(5))
    assert store.keys_revision() == 3
    assert not store.revoke_key(first.id, EpochTime(6))
    assert not store.revoke_key(KeyId("nobody"), EpochTime(6))
    assert store.keys_revision() == 3
    assert store.keys()[0].revoked_at == 5


def test_a_key_that_exists_already_is_refused_and_changes_nothing(store: SqliteStore) -> None:
    store.add_key(key(1))
    for twin in (key(1, "another secret"), key(2, "secret 1")):
        with pytest.raises(sqlite3.IntegrityError):
            store.add_key(twin)
    assert store.keys() == [key(1)]
    assert store.keys_revision() == 1


def test_a_record_comes_back_with_everything_it_held(store: SqliteStore) -> None:
    first = record("r1")
    empty = record(
        "r2", tenant=None, project=None, key=None, model=None, deployment=None, vendor_model=None,
        vendor_request_id=None, attempts=(), outcome=Outcome.REFUSED, owner="caller", status=401,
        error="invalid_api_key", waited_for=None, fingerprint=None, normalised_fingerprint=None, end_user=None, tags={},
        stream=False,
    )  # fmt: skip
    store.add_records([first, empty])
    for one in (first, empty):
        found = store.record(one.request_id)
        assert found is not None
        found["stream"] = bool(found["stream"])
        assert msgspec.convert(found, Record) == one
        assert set(found) == set(Record.__struct_fields__)
    assert store.record("nobody") is None


def test_usage_is_what_was_answered_in_full_or_in_part_since_a_time(store: SqliteStore) -> None:
    at = 1_750_000_000_000_000_000
    store.add_records(
        [
            record("before", at=EpochTime(at - 1)),
            record("at the time"),
            record("later", at=EpochTime(at + 5)),
            record("refused", status=429, input_tokens=0, output_tokens=0, cached_tokens=0, outcome=Outcome.REFUSED),
            record("failed", status=502, input_tokens=0, output_tokens=0, cached_tokens=0, outcome=Outcome.FAILED),
            record("left in the middle", status=499, input_tokens=13, output_tokens=2, outcome=Outcome.CANCELLED),
            record("another's", tenant="bank", key="bank/default/k"),
        ]
    )
    shop = UsageRow("shop", "default", "shop/default/dev", "assistant", "acme/main/gpt", 3, 39, 30)
    bank = UsageRow("bank", "default", "bank/default/k", "assistant", "acme/main/gpt", 1, 13, 14)
    assert sorted(store.usage_since(EpochTime(at)), key=lambda row: str(row.tenant)) == [bank, shop]
    assert store.usage_since(EpochTime(at), "shop") == [shop]
    assert store.usage_since(EpochTime(at + 6)) == []


def test_a_group_of_records_is_written_whole_or_not_at_all(store: SqliteStore) -> None:
    with pytest.raises((OverflowError, sqlite3.Error)):
        store.add_records([record("good"), record("too large", input_tokens=1 << 70)])
    assert store.record("good") is None
    store.add_records([record("good")])
    assert store.record("good") is not None


def test_the_configuration_is_mirrored_again_and_again(store: SqliteStore) -> None:
    text = """
    vendors: {{acme: {{protocol: openai, base_url: "http://x/v1", credentials: [{{name: main, key: k}}]}}}}
    models: {{assistant: {{deployments: [{{vendor: acme, credential: main, model: gpt}}]}}}}
    plans: {{starter: {{weight: {weight}, limits: [{{dimension: requests, window: 60s, value: 5}}]}}}}
    tenants:
      - id: shop
        plan: starter
        keys: [{{name: dev, secret: a-secret-of-the-shop}}]
        projects: [{{id: bot, keys: [{{name: live, secret: a-secret-of-the-bot}}]}}]
    """
    store.mirror(parse_config(text.format(weight=1)))
    store.mirror(parse_config(text.format(weight=7)))
    rows = store._connection.execute("SELECT name, weight, limits FROM plans").fetchall()
    assert [(row["name"], row["weight"]) for row in rows] == [("starter", 7)]
    assert msgspec.json.decode(rows[0]["limits"])[0]["value"] == 5
    projects = store._connection.execute("SELECT id FROM projects ORDER BY id").fetchall()
    assert [row["id"] for row in projects] == ["bot", "default"]
    keys = store._connection.execute("SELECT * FROM configured_keys ORDER BY id").fetchall()
    assert [tuple(row) for row in keys] == [
        ("shop/bot/live", "shop", "bot", "live"),
        ("shop/default/dev", "shop", "default", "dev"),
    ]


# What only a file can do.


@pytest.fixture(name="file_url")
def _file_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/dujiang.db"


def test_what_was_written_is_there_after_a_restart(file_url: str) -> None:
    store = SqliteStore(file_url)
    store.add_key(key(1))
    store.add_records([record("r")])
    store.close()
    again = SqliteStore(file_url)
    assert again.keys() == [key(1)]
    assert again.record("r") is not None
    again.close()


def test_a_secret_is_nowhere_in_the_file(tmp_path: Path, file_url: str) -> None:
    secret = new_secret()
    store = SqliteStore(file_url)
    store.add_key(key(1, secret))
    store.add_records([record("r")])
    store.close()
    for file in tmp_path.iterdir():
        content = file.read_bytes()
        assert secret.encode() not in content
        assert secret.removeprefix("dj-").encode() not in content


def test_two_processes_write_at_once_and_nothing_is_lost(tmp_path: Path, file_url: str) -> None:
    program = textwrap.dedent(
        """
        import sys
        import msgspec
        sys.path.insert(0, sys.argv[3])
        from tests.contract.test_stores import key, record
        from dujiang.storage.sqlite import SqliteStore
        url, number = sys.argv[1], int(sys.argv[2])
        store = SqliteStore(url)
        for group in range(30):
            store.add_records([record(f"{number}-{group}-{one}") for one in range(20)])
            store.add_key(key(number * 1000 + group))
        store.close()
        """
    )
    root = str(Path(__file__).parents[2])
    writers = [
        subprocess.Popen([sys.executable, "-c", program, file_url, str(number), root], stderr=subprocess.PIPE)
        for number in range(4)
    ]
    for writer in writers:
        assert writer.wait(30) == 0, writer.stderr.read().decode() if writer.stderr else ""
        if writer.stderr:
            writer.stderr.close()
    store = SqliteStore(file_url)
    assert store._connection.execute("SELECT count(*) FROM records").fetchone()[0] == 4 * 600
    assert len(store.keys()) == 120
    assert store.keys_revision() == 120
    store.close()


def test_a_file_that_is_no_database_is_named(tmp_path: Path, file_url: str) -> None:
    (tmp_path / "dujiang.db").write_bytes(b"this is not a database, whatever its name says" * 100)
    with pytest.raises(StoreUnusable, match=r"dujiang\.db cannot be used: file is not a database"):
        SqliteStore(file_url)


def test_a_database_of_somebody_else_is_named(tmp_path: Path, file_url: str) -> None:
    with sqlite3.connect(tmp_path / "dujiang.db") as other:
        other.execute("CREATE TABLE records (something TEXT)")
    other.close()
    with pytest.raises(StoreUnusable, match="cannot be used"):
        SqliteStore(file_url)


def test_a_folder_that_cannot_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreUnusable, match=r"file/dujiang\.db cannot be used"):
        SqliteStore(f"sqlite:///{tmp_path}/file/dujiang.db")
    with pytest.raises(StoreUnusable, match="cannot be used"):
        SqliteStore(f"sqlite:///{tmp_path}")
    with pytest.raises(StoreUnusable, match=r"/proc/nothing/dujiang\.db cannot be used"):
        SqliteStore("sqlite:////proc/nothing/dujiang.db")


def test_a_locked_database_is_an_error_after_a_while(
    tmp_path: Path, file_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dujiang.storage.sqlite._BUSY_TIMEOUT_S", 0.05)
    store = SqliteStore(file_url)
    holder = sqlite3.connect(tmp_path / "dujiang.db", isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        store.add_records([record("r")])
    with pytest.raises(StoreUnusable, match="locked"):
        SqliteStore(file_url)
    holder.execute("ROLLBACK")
    store.add_records([record("r")])
    assert store.record("r") is not None
    holder.close()
    store.close()


def test_urls_name_files_as_they_do_elsewhere() -> None:
    assert database_path("sqlite:///relative/x.db") == "relative/x.db"
    assert database_path("sqlite:////absolute/x.db") == "/absolute/x.db"
    assert database_path("memory://") == ":memory:"
