"""Whether this host gives the gateway what it needs: a place for its records and a port."""

from __future__ import annotations

import socket
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

from dujiang.config import Config
from dujiang.server.cli.language import say
from dujiang.storage.sqlite import database_path

_BUSY_TIMEOUT_S = 1.0


def storage_problem(url: str) -> str | None:
    """Return what keeps the storage from being written, with a remedy; None if nothing does.

    Nothing is left behind where there is no database yet.
    """
    name = database_path(url)
    if name == ":memory:":
        return None
    path = Path(name).absolute()
    try:
        pepper = path.with_suffix(".pepper")
        if pepper.exists():
            pepper.read_bytes()
        if path.exists():
            return _database_problem(path)
        folder = next(parent for parent in path.parents if parent.exists())
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        return say("storage_unusable", path=error.filename or path, reason=error.strerror or error)
    return None


def _database_problem(path: Path) -> str | None:
    if path.is_dir():
        return say("storage_folder", path=path)
    try:
        database = sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True, timeout=_BUSY_TIMEOUT_S, isolation_level=None)
        with closing(database):
            database.execute("BEGIN IMMEDIATE")
            database.execute("SELECT count(*) FROM sqlite_schema")
            database.execute("ROLLBACK")
    except sqlite3.Error as error:
        if "locked" in str(error):
            return None  # somebody writes it at this moment, so it can be written
        return say("storage_unusable", path=path, reason=error)
    return None


def port_problem(config: Config) -> str | None:
    """Return what keeps the gateway from listening; None if the port is free or the system chooses one."""
    host, port = config.server.host, config.server.port
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
            probe.listen(1)
    except OSError as error:
        return error.strerror or str(error)
    return None
