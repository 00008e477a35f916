"""The command line as a user runs it: in a process of the test, in a pipe, in English unless told otherwise."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml
from typer.testing import CliRunner

from dujiang.server.cli import app

ENGLISH = {"LANG": "en_US.UTF-8", "LC_ALL": "", "LC_MESSAGES": "", "DUJIANG_LANGUAGE": "", "COLUMNS": "80"}


def run(*arguments: object, status: int = 0, env: dict[str, str] | None = None) -> Any:
    """Run `dujiang ARGUMENTS`; fail unless it ends with the status, or if it lets an exception out."""
    result = CliRunner(env={**ENGLISH, **(env or {})}).invoke(app, [str(one) for one in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == status, result.output
    assert "\x1b" not in result.output, "no colours in a pipe"
    return result


async def run_beside(*arguments: object, status: int = 0) -> Any:
    """Run `dujiang ARGUMENTS` while the event loop goes on serving what it is asked for."""
    return await asyncio.to_thread(run, *arguments, status=status)


def run_process(*arguments: object, status: int = 0) -> Any:
    """Run `dujiang ARGUMENTS` in a process of its own; fail unless it ends with the status."""
    command = [sys.executable, "-m", "dujiang", *map(str, arguments)]
    ended = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=30, env={**os.environ, **ENGLISH}
    )
    assert ended.returncode == status, ended.stderr
    return ended


def written(path: Path, config: dict[str, Any]) -> Path:
    """Write a configuration and return its path."""
    path.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    return path
