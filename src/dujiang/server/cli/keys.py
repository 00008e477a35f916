"""`dujiang keys`: the keys that tenants call with. A secret is shown once and kept only as a peppered hash."""

from __future__ import annotations

import json as json_text
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from dujiang.accounts.keys import Key, digest, new_secret
from dujiang.clock import SECOND, EpochTime, SystemClock
from dujiang.config import Config
from dujiang.config.schema import TenantSection
from dujiang.config.units import parse_duration
from dujiang.server.cli.configured import DEFAULT_PATH, configured, end
from dujiang.server.cli.language import say
from dujiang.storage.sqlite import SqliteStore, database_path
from dujiang.terms import KeyId, ProjectId, TenantId

app = typer.Typer(help="Make, list and revoke the keys that tenants call with.", no_args_is_help=True)

ConfigPath = Annotated[Path, typer.Option(help="The configuration of the gateway.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.callback()
def keys() -> None:
    """Make, list and revoke the keys that tenants call with."""


@app.command()
def create(
    *,
    tenant: Annotated[str, typer.Option(help="The tenant it speaks for.")],
    project: Annotated[str, typer.Option(help="The tenant's project.")] = "default",
    name: Annotated[str | None, typer.Option(help="What people call it; its id unless told.")] = None,
    expires: Annotated[
        str | None, typer.Option(help="How long it is valid, like 30d or 12h; for ever unless told.")
    ] = None,
    models: Annotated[
        str | None, typer.Option(help="Models it may use, like a,b; those of the plan unless told.")
    ] = None,
    config: ConfigPath = DEFAULT_PATH,
    json: Json = False,
) -> None:
    """Make a key and print its secret, which is not shown again."""
    from dujiang.server.pepper import load_pepper

    read = configured(config)
    _check_project(_tenant(read, tenant, config), project)
    allowed = _models(read, models)
    now = SystemClock().wall()
    expires_at = EpochTime(now + _validity_ns(expires)) if expires is not None else None
    secret = new_secret()
    key_id = KeyId(f"key_{secrets.token_hex(8)}")
    with _store(read) as store:
        _check_name(read, store, tenant, project, name)
        made = Key(
            id=key_id,
            tenant=TenantId(tenant),
            project=ProjectId(project),
            name=name or key_id,
            digest=digest(secret.encode(), load_pepper(read)),
            created_at=now,
            expires_at=expires_at,
            models=allowed,
        )
        store.add_key(made)
    if json:
        typer.echo(json_text.dumps({**_shown(made), "secret": secret}))
        return
    _print_fields({**_shown(made), "secret": secret})
    typer.secho(say("secret_once"), err=True, fg="yellow")


@app.command("list")
def list_keys(config: ConfigPath = DEFAULT_PATH, json: Json = False) -> None:
    """List all keys, never a secret."""
    from dujiang.server.app import configured_keys

    read = configured(config)
    found = list(configured_keys(read, b""))
    database = database_path(read.storage.url)
    if database != ":memory:" and Path(database).exists():
        with _store(read) as store:
            found += store.keys()
    if json:
        typer.echo(json_text.dumps([_shown(key) for key in found]))
        return
    if not found:
        typer.echo(say("no_keys"))
        return
    _print_table(found)


@app.command()
def revoke(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="The id `dujiang keys list` shows.")],
    config: ConfigPath = DEFAULT_PATH,
) -> None:
    """Revoke a key; calls with it are refused within a second or two."""
    from dujiang.server.app import configured_keys

    read = configured(config)
    if any(key.id == key_id for key in configured_keys(read, b"")):
        end(say("revoke_in_config", id=key_id, config=config))
    with _store(read) as store:
        if not store.revoke_key(KeyId(key_id), SystemClock().wall()):
            end(say("no_such_key", id=key_id))
    typer.secho(say("revoked", id=key_id), fg="green")


@contextmanager
def _store(config: Config) -> Iterator[SqliteStore]:
    """Open the store while the block lasts; exits 2 where keys cannot be kept."""
    import sqlite3

    if database_path(config.storage.url) == ":memory:":
        end(say("keys_need_file"), status=2)
    try:
        store = SqliteStore(config.storage.url)
        try:
            yield store
        finally:
            store.close()
    except (OSError, sqlite3.Error) as error:
        end(say("storage_unusable", path=database_path(config.storage.url), reason=error))


def _tenant(config: Config, name: str, path: Path) -> TenantSection:
    found = next((tenant for tenant in config.tenants if tenant.id == name), None)
    if found is None:
        there = ", ".join(tenant.id for tenant in config.tenants) or "–"
        end(say("no_such_tenant", tenant=name, config=path, there=there), status=2)
    return found


def _check_project(tenant: TenantSection, project: str) -> None:
    there = ["default", *(one.id for one in tenant.projects)]
    if project not in there:
        end(say("no_such_project", tenant=tenant.id, project=project, there=", ".join(there)), status=2)


def _models(config: Config, text: str | None) -> tuple[str, ...]:
    if text is None:
        return ()
    there = {name for model, section in config.models.items() for name in (model, *section.aliases)}
    wanted = [name.strip() for name in text.split(",")]
    for name in wanted:
        if name not in there:
            end(say("no_such_model", model=name, there=", ".join(sorted(there)) or "–"), status=2)
    return tuple(dict.fromkeys(wanted))


def _validity_ns(text: str) -> int:
    try:
        validity_ns = parse_duration(text)
    except ValueError as error:
        end(f"--expires: {error}", status=2)
    if validity_ns <= 0:
        end(say("expires_now"), status=2)
    return validity_ns


def _check_name(config: Config, store: SqliteStore, tenant: str, project: str, name: str | None) -> None:
    """See to it that people can tell a project's keys apart."""
    from pydantic import TypeAdapter, ValidationError

    from dujiang.config.schema import Name
    from dujiang.server.app import configured_keys

    if name is None:
        return
    try:
        TypeAdapter(Name).validate_python(name)
    except ValidationError:
        end(say("bad_name", name=name), status=2)
    for key in (*configured_keys(config, b""), *store.keys()):
        if (key.tenant, key.project, key.name) == (tenant, project, name) and key.revoked_at is None:
            end(say("name_taken", name=name, id=key.id), status=2)


def _shown(key: Key) -> dict[str, Any]:
    """Return what may be seen of a key."""
    return {
        "id": key.id,
        "tenant": key.tenant,
        "project": key.project,
        "name": key.name,
        "models": list(key.models),
        "created": None if key.configured else _moment(key.created_at),
        "expires": _moment(key.expires_at),
        "revoked": _moment(key.revoked_at),
        "configured": key.configured,
    }


def _moment(at: EpochTime | None) -> str | None:
    return None if at is None else datetime.fromtimestamp(at // SECOND, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _print_fields(fields: dict[str, Any]) -> None:
    for field in ("id", "tenant", "project", "name", "models", "expires", "secret"):
        value = ", ".join(fields[field]) if field == "models" else fields[field]
        if value:
            typer.echo(f"{field:8} {value}")


def _print_table(found: list[Key]) -> None:
    from rich.console import Console
    from rich.table import Table

    columns = ("id", "tenant", "project", "name", "created", "expires", "revoked")
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in columns:
        table.add_column(say(f"key_{column}"), no_wrap=True)
    for key in found:
        shown = _shown(key)
        if key.configured:
            shown["created"] = say("in_configuration")
        table.add_row(*(shown[column] or "–" for column in columns))
    # In a pipe, or where the window is too narrow, a line is a key: nothing is cut off.
    needed = Console(width=10_000).measure(table).maximum
    console = Console(highlight=False)
    Console(highlight=False, width=max(needed, console.width if console.is_terminal else 0)).print(table)
