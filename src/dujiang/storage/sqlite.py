"""SQLite: keys, the mirror of the configuration, and records, in one file with write-ahead logging.

Groups of records are one transaction each (`synchronous=NORMAL`): what was committed survives a killed process;
a power failure can lose the last transactions, never the integrity of the file.
"""

from __future__ import annotations

import os
import re
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

import msgspec

from dujiang.accounts.keys import Key
from dujiang.clock import EpochTime
from dujiang.config.schema import Config
from dujiang.metering.record import Record
from dujiang.metering.usage_report import UsageRow
from dujiang.terms import KeyId

_NAMED = re.compile(r"^-- (\w+) --$", re.MULTILINE)
_BUSY_TIMEOUT_S = 5.0
_DETAIL = (
    "dialect",
    "vendor_model",
    "vendor_request_id",
    "attempts",
    "waited_for",
    "estimated_input_tokens",
    "estimated_output_tokens",
    "usage_source",
    "extended_tokens",
    "cache",
    "request_bytes",
    "answer_bytes",
    "end_user",
    "tags",
    "traceparent",
    "durations",
    "stamps",
)


def _queries() -> dict[str, str]:
    text = files("dujiang.storage").joinpath("queries.sql").read_text(encoding="utf-8")
    pieces = _NAMED.split(text)
    return {name: query.strip() for name, query in zip(pieces[1::2], pieces[2::2], strict=True)}


def database_path(url: str) -> str:
    """Return the file of a `sqlite:///` URL, or a private in-memory database for `memory://`."""
    return url.removeprefix("sqlite:///") if url.startswith("sqlite:///") else ":memory:"


class StoreUnusable(OSError):
    """The database cannot be opened; the message names the file, the reason and the remedy."""


class SqliteStore:
    """One database file. Its methods block and may be called from any one thread at a time.

    Raises StoreUnusable when the file cannot be opened, is locked, or is no database.
    """

    def __init__(self, url: str) -> None:
        self._path = database_path(url)
        self._lock = threading.Lock()
        self._queries = _queries()
        try:
            if self._path != ":memory:":
                Path(self._path).parent.mkdir(parents=True, exist_ok=True)
                # Records tell who calls what: like the pepper beside it, the file is its owner's alone.
                os.close(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600))
            self._connection = sqlite3.connect(
                self._path, timeout=_BUSY_TIMEOUT_S, check_same_thread=False, isolation_level=None
            )
            try:
                self._prepare()
            except BaseException:
                self._connection.close()
                raise
        except (OSError, sqlite3.Error) as error:
            raise StoreUnusable(
                f"storage.url: the database {self._path} cannot be used: {error}; "
                "name a file that can be written and is a database of Dujiang, or move this one away"
            ) from error

    def _prepare(self) -> None:
        self._connection.row_factory = sqlite3.Row
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = NORMAL")
        schema = files("dujiang.storage").joinpath("schema.sql").read_text(encoding="utf-8")
        self._connection.executescript(f"BEGIN IMMEDIATE;{schema}COMMIT;")

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

    # Keys

    def add_key(self, key: Key) -> None:
        """Keep a new key."""
        row = {
            "id": key.id,
            "tenant": key.tenant,
            "project": key.project,
            "name": key.name,
            "digest": key.digest,
            "created_at": key.created_at,
            "expires_at": key.expires_at,
            "models": msgspec.json.encode(key.models).decode(),
        }
        with self._transaction() as connection:
            connection.execute(self._queries["add_key"], row)

    def keys(self) -> list[Key]:
        """Return all keys, revoked ones included."""
        rows = self._rows("all_keys", {})
        return [
            msgspec.convert({**dict(row), "models": msgspec.json.decode(row["models"])}, Key, strict=False)
            for row in rows
        ]

    def revoke_key(self, key_id: KeyId, at: EpochTime) -> bool:
        """Mark a key as revoked; return whether there was such a key in use."""
        with self._transaction() as connection:
            return connection.execute(self._queries["revoke_key"], {"id": key_id, "at": at}).rowcount > 0

    def keys_revision(self) -> int:
        """Return a number that grows with every change of the keys."""
        rows = self._rows("keys_revision", {})
        return rows[0]["value"] if rows else 0

    # The mirror of the configuration

    def mirror(self, config: Config) -> None:
        """Write down plans, tenants, projects and the names of their keys as they are configured now."""
        with self._transaction() as connection:
            for name, plan in config.plans.items():
                limits = msgspec.json.encode([limit.model_dump(mode="json") for limit in plan.limits]).decode()
                connection.execute(self._queries["put_plan"], {"name": name, "weight": plan.weight, "limits": limits})
            for tenant in config.tenants:
                row = {"id": tenant.id, "plan": tenant.plan, "tier": tenant.tier, "enabled": int(tenant.enabled)}
                connection.execute(self._queries["put_tenant"], row)
                projects = [("default", tenant.keys), *((one.id, one.keys) for one in tenant.projects)]
                for project, keys in projects:
                    connection.execute(self._queries["put_project"], {"tenant": tenant.id, "id": project})
                    for key in keys:
                        row = {"tenant": tenant.id, "project": project, "name": key.name}
                        row["id"] = f"{tenant.id}/{project}/{key.name}"
                        connection.execute(self._queries["put_configured_key"], row)

    # Records

    def add_records(self, records: Sequence[Record]) -> None:
        """Write a group of records in one transaction."""
        rows = [_row(record) for record in records]
        with self._transaction() as connection:
            connection.executemany(self._queries["add_record"], rows)

    def record(self, request_id: str) -> dict[str, Any] | None:
        """Return a call's record with all its details; None if there is none."""
        rows = self._rows("record_by_id", {"request_id": request_id})
        if not rows:
            return None
        row = dict(rows[0])
        return row | msgspec.json.decode(row.pop("detail"))

    def usage_since(self, since: EpochTime, tenant: str | None = None) -> list[UsageRow]:
        """Return what answered calls used since a time, by tenant, project, key, model and deployment."""
        rows = self._rows("usage_since", {"since": since, "tenant": tenant})
        return [msgspec.convert(dict(row), UsageRow) for row in rows]

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    def _rows(self, query: str, parameters: dict[str, Any]) -> list[sqlite3.Row]:
        with self._lock:
            return self._connection.execute(self._queries[query], parameters).fetchall()


def _row(record: Record) -> tuple[Any, ...]:
    detail = {name: getattr(record, name) for name in _DETAIL}
    return (
        record.request_id,
        record.at,
        record.tenant,
        record.project,
        record.key,
        str(record.operation),
        record.model,
        record.deployment,
        record.priority,
        record.stream,
        record.outcome.value,
        str(record.owner),
        record.status,
        record.error,
        record.input_tokens,
        record.output_tokens,
        record.cached_tokens,
        record.reserved_tokens,
        record.saved_tokens,
        record.wall_ns,
        record.fingerprint,
        record.normalised_fingerprint,
        msgspec.json.encode(detail).decode(),
    )
