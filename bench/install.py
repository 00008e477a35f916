"""Puts peers, at fixed versions, into environments of their own under the cache folder; nothing else is touched."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

_PATIENCE_S = 900


class Unavailable(RuntimeError):
    """A target that cannot be had on this machine; the message tells what to do about it."""


def _carry_out(command: Sequence[str], what: str) -> str:
    try:
        outcome = subprocess.run(  # noqa: S603 - the arguments are ours
            command, capture_output=True, text=True, check=False, timeout=_PATIENCE_S, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"{what} failed: {error}") from error
    if outcome.returncode:
        lines = (outcome.stderr or outcome.stdout).strip().splitlines()
        told = [line for line in lines if "error" in line.lower()] or lines or ["without a word"]
        raise Unavailable(f"{what} failed: {told[-1][:200]}")
    return outcome.stdout


def _fresh(folder: Path) -> bool:
    """Return whether the folder has to be filled; one left half filled is emptied first."""
    if (folder / "installed.json").exists():
        return False
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return True


def _mark(folder: Path, packages: dict[str, str]) -> None:
    (folder / "installed.json").write_text(json.dumps(packages, indent=1))


def python_package(cache: Path, requirement: str) -> Path:
    """Install a requirement (`name[extra]==version`) into a virtual environment and return its `bin` folder.

    Raises Unavailable when the package index refuses or cannot be reached.
    """
    folder = cache / re.sub(r"[^\w.]+", "-", requirement)
    if _fresh(folder):
        _carry_out([sys.executable, "-m", "venv", str(folder)], "making a virtual environment")
        pip = [str(folder / "bin" / "python"), "-m", "pip", "--disable-pip-version-check"]
        _carry_out([*pip, "install", requirement], f"pip install {requirement}")
        listed: list[dict[str, str]] = json.loads(_carry_out([*pip, "list", "--format=json"], "pip list"))
        _mark(folder, {package["name"]: package["version"] for package in listed})
    return folder / "bin"


def node_package(cache: Path, requirement: str) -> Path:
    """Install an npm package (`name@version`) into a folder of its own and return its `node_modules`.

    Raises Unavailable when there is no Node, or the registry refuses or cannot be reached.
    """
    if shutil.which("npm") is None or shutil.which("node") is None:
        raise Unavailable("needs Node and npm: apt-get install nodejs npm")
    folder = cache / re.sub(r"[^\w.]+", "-", requirement).strip("-")
    if _fresh(folder):
        command = ["npm", "install", "--no-audit", "--no-fund", "--prefix", str(folder), requirement]
        _carry_out(command, f"npm install {requirement}")
        listed = json.loads((folder / "package-lock.json").read_text())["packages"]
        _mark(folder, {path.removeprefix("node_modules/"): told["version"] for path, told in listed.items() if path})
    return folder / "node_modules"


def installed_packages(folder: Path) -> dict[str, str]:
    """Return the versions of everything in an environment made here."""
    marker = folder / "installed.json"
    return json.loads(marker.read_text()) if marker.exists() else {}
