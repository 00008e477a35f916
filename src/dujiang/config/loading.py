"""Reads a configuration file and names every mistake in it, each with its path, line and remedy."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from dujiang.config.references import check_references
from dujiang.config.schema import Config

_REFERENCE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}\n]*))?\}")
# A reference may stand bare inside {a: ${NAME}}, where YAML would read its braces. It is carried through the
# YAML reader between two characters of the private use area, which no configuration has a use for.
_CARRIED = re.compile("\ue000([^\ue001]*)\ue001")

_SECRETS = frozenset({"secret", "key", "pepper", "proxy"})
"""Keys whose values no message shows; a proxy's address may hold a password."""

KeyPath = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake in a configuration: where, what, and what to do."""

    path: str
    message: str
    line: int | None = None

    def __str__(self) -> str:
        where = f"line {self.line}: " if self.line else ""
        return f"{where}{self.path}: {self.message}"


class ConfigInvalid(Exception):
    """The configuration has mistakes; `problems` holds every one of them."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems
        super().__init__("\n".join(map(str, problems)))


def load_config(path: Path, environment: Mapping[str, str] | None = None) -> Config:
    """Read and check the file; raise ConfigInvalid with all its mistakes."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConfigInvalid([Problem(str(path), f"{reason}; `dujiang init` writes a file")]) from error
    except UnicodeDecodeError as error:
        raise ConfigInvalid([Problem(str(path), "not UTF-8 text; save it as UTF-8")]) from error
    return parse_config(text, environment)


def parse_config(text: str, environment: Mapping[str, str] | None = None) -> Config:
    """Check a configuration given as text; raise ConfigInvalid with all its mistakes."""
    environment = os.environ if environment is None else environment
    lines: dict[KeyPath, int] = {}
    problems: list[Problem] = []
    try:
        root = yaml.compose(_REFERENCE.sub(_carry, text), Loader=yaml.SafeLoader)
        if root is None:
            raise ConfigInvalid([Problem("file", "empty; `dujiang init` writes one to start from")])
        tree = _construct(root, (), lines, problems)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        message = f"not valid YAML: {getattr(error, 'problem', None) or error}"
        raise ConfigInvalid([Problem("file", message, mark.line + 1 if mark else None)]) from error
    except RecursionError:
        raise ConfigInvalid([Problem("file", "nested too deeply, or an alias refers to itself")]) from None
    if not isinstance(tree, dict):
        raise ConfigInvalid([Problem("file", "must be a mapping with keys such as server, vendors, models")])
    tree = _resolve(tree, (), environment, lines, problems)
    unset = {problem.path for problem in problems}
    try:
        config = Config.model_validate(tree)
    except ValidationError as error:
        details = error.errors(include_url=False)
        # A list whose only item is wrong is also reported as too short: that is an echo, not a mistake.
        echoes = [
            one
            for one in details
            if one["type"] == "too_short"
            and any(other is not one and other["loc"][: len(one["loc"])] == one["loc"] for other in details)
        ]
        explained = [_explain(detail, tree, lines) for detail in details if detail not in echoes]
        # What stands in for a variable that is not set cannot be right either.
        problems += [problem for problem in explained if problem.path not in unset]
        raise ConfigInvalid(_sorted(problems)) from None
    problems += [Problem(render_path(path), message, _line(path, lines)) for path, message in check_references(config)]
    if problems:
        raise ConfigInvalid(_sorted(problems))
    return config


def render_path(path: KeyPath) -> str:
    """Return a path as people write it: models.assistant.deployments[0].vendor."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else str(step)
    return text or "file"


def line_of(text: str, path: KeyPath) -> int | None:
    """Return the line of a valid configuration in which a path, or what is nearest above it, stands."""
    root = yaml.compose(_REFERENCE.sub(_carry, text), Loader=yaml.SafeLoader)
    lines: dict[KeyPath, int] = {}
    _construct(root, (), lines, [])
    return _line(path, lines)


def _sorted(problems: list[Problem]) -> list[Problem]:
    return sorted(set(problems), key=lambda problem: (problem.line or 0, problem.path))


def _line(path: KeyPath, lines: dict[KeyPath, int]) -> int | None:
    while path and path not in lines:
        path = path[:-1]
    return lines.get(path)


def _carry(match: re.Match[str]) -> str:
    return "\ue000" + match[0][2:-1] + "\ue001"


def _construct(node: yaml.Node, path: KeyPath, lines: dict[KeyPath, int], problems: list[Problem]) -> Any:
    """Build plain data from YAML nodes, noting each path's line and every key that is written twice."""
    lines[path] = node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        mapping: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = str(key_node.value)
            line = key_node.start_mark.line + 1
            if key in mapping:
                first = lines[*path, key]
                problems.append(
                    Problem(render_path((*path, key)), f"written twice (first in line {first}); remove one", line)
                )
            mapping[key] = _construct(value_node, (*path, key), lines, problems)
            lines[*path, key] = line
        return mapping
    if isinstance(node, yaml.SequenceNode):
        return [_construct(item, (*path, index), lines, problems) for index, item in enumerate(node.value)]
    try:
        return yaml.SafeLoader("").construct_object(node)
    except ValueError as error:
        # Text that looks like a date or a number and is none.
        raise yaml.MarkedYAMLError(problem=f"{error}; put it in quotes", problem_mark=node.start_mark) from error


def _resolve(
    value: Any,
    path: KeyPath,
    environment: Mapping[str, str],
    lines: dict[KeyPath, int],
    problems: list[Problem],
) -> Any:
    """Replace ${NAME} and ${NAME:-default} in every text value."""
    if isinstance(value, dict):
        return {key: _resolve(item, (*path, key), environment, lines, problems) for key, item in value.items()}
    if isinstance(value, list):
        return [_resolve(item, (*path, i), environment, lines, problems) for i, item in enumerate(value)]
    if not isinstance(value, str):
        return value

    def lookup(match: re.Match[str]) -> str:
        name, _, default = match[1].partition(":-")
        found = environment.get(name) or default
        if not found and ":-" not in match[1]:
            message = f"the environment variable {name} is not set; export it before the start"
            problems.append(Problem(render_path(path), message, _line(path, lines)))
            return f"unset-variable-{name}"
        return found

    return _CARRIED.sub(lookup, value)


def _explain(detail: Any, tree: Any, lines: dict[KeyPath, int]) -> Problem:
    path: KeyPath = _real_path(tuple(detail["loc"]), tree)
    kind = detail["type"]
    if kind == "extra_forbidden":
        message = _unknown_key(path)
    elif kind == "missing":
        message = f"is missing; add `{path[-1]}`"
    elif kind == "value_error":
        message = str(detail["ctx"]["error"])
    else:
        message = detail["msg"][:1].lower() + detail["msg"][1:]
        shown = detail.get("input")
        if isinstance(shown, str | int | float | bool) and _SECRETS.isdisjoint(path):
            message += f", got {shown!r}"
    return Problem(render_path(path), message, _line(path, lines))


def _real_path(location: tuple[str | int, ...], tree: Any) -> KeyPath:
    """Drop the steps pydantic adds for union members and dictionary keys; they are not in the file."""
    path: list[str | int] = []
    for step in location:
        if step == "[key]":
            continue  # pydantic's word for a name that is wrong itself
        if isinstance(tree, dict) and (step in tree or len(path) + 1 == len(location)):
            path.append(step)
            tree = tree.get(step)
        elif isinstance(tree, list) and isinstance(step, int) and step < len(tree):
            path.append(step)
            tree = tree[step]
    return tuple(path) or location


def _unknown_key(path: KeyPath) -> str:
    known = _known_keys(path[:-1])
    close = difflib.get_close_matches(str(path[-1]), known, n=1)
    if close:
        return f"unknown key; did you mean `{close[0]}`?"
    return f"unknown key; known here: {', '.join(sorted(known))}" if known else "unknown key; remove it"


def _known_keys(path: KeyPath) -> list[str]:
    """Return the keys the schema knows at a path, by walking its annotations."""
    kind: Any = Config
    for step in path:
        kind = _step_into(kind, step)
    model = _model_in(kind)
    return list(model.model_fields) if model else []


def _step_into(kind: Any, step: str | int) -> Any:
    model = _model_in(kind)
    if isinstance(step, int) or model is None or step not in model.model_fields:
        return kind
    return model.model_fields[step].annotation


def _model_in(kind: Any) -> type[BaseModel] | None:
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return kind
    for argument in getattr(kind, "__args__", ()):
        if (model := _model_in(argument)) is not None:
            return model
    return None
