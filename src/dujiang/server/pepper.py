"""The pepper that keys are hashed with: configured, or made once and kept beside the database."""

from __future__ import annotations

import contextlib
import os
import secrets
import tempfile
from pathlib import Path

from dujiang.accounts.keys import pepper_from
from dujiang.config.schema import Config
from dujiang.storage.sqlite import database_path


def load_pepper(config: Config) -> bytes:
    """Return the hashing key; without a configured one, read or make the file beside the database.

    Raises OSError when that file can be neither read nor written.
    """
    if config.server.pepper is not None:
        return pepper_from(config.server.pepper.get_secret_value())
    database = database_path(config.storage.url)
    if database == ":memory:":
        return secrets.token_bytes(32)
    path = Path(database).with_suffix(".pepper")
    if not path.exists():
        _make(path)
    text = path.read_text(encoding="ascii").strip()
    if not text:
        raise OSError(f"{path} is empty; put the pepper back from a backup, or remove it and make all keys anew")
    return pepper_from(text)


def _make(path: Path) -> None:
    """Write a new pepper. The file appears whole or not at all; if another process is faster, its pepper stays."""
    descriptor, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(secrets.token_urlsafe(32))
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
    finally:
        Path(draft).unlink()
