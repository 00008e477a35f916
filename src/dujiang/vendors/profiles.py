"""Loads what is known about each vendor: addresses, limit semantics, announcements, refusals, models.

A profile is one YAML file: ours lie in `profile_data/`, an operator's may lie anywhere. The format is
`profile_schema.py`, explained in docs/how-to/add-a-vendor.md; a key it does not know is a mistake.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args, get_type_hints

import msgspec
import yaml

from dujiang.vendors.announced import AnnouncedLimit
from dujiang.vendors.profile_schema import Face, LimitRule, Model, Part, Profile
from dujiang.vendors.refusals import ErrorWords, Meaning, error_words

if TYPE_CHECKING:
    SafeLoader = yaml.SafeLoader
else:
    # libyaml is ten times faster where PyYAML was built with it.
    SafeLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

__all__ = [
    "AnnouncedLimit",
    "ErrorWords",
    "Face",
    "LimitRule",
    "Meaning",
    "Model",
    "Profile",
    "ProfileInvalid",
    "error_words",
    "load_profile",
    "parse_profile",
    "profile_names",
]


class ProfileInvalid(ValueError):
    """A profile that does not exist or breaks the format; the message names file, path and remedy."""


@cache
def profile_names() -> list[str]:
    """Return the names of the profiles that come with the program."""
    return sorted(
        entry.name.removesuffix(".yaml")
        for entry in files("dujiang.vendors").joinpath("profile_data").iterdir()
        if entry.name.endswith(".yaml")
    )


def load_profile(name_or_path: str) -> Profile:
    """Return one of our profiles by its name, or an operator's by the path of its file (`.yaml`, `.yml`).

    Ours are read once. Raises ProfileInvalid with file, path and remedy.
    """
    if name_or_path.endswith((".yaml", ".yml")):
        path = Path(name_or_path)
        try:
            return parse_profile(path.read_text(encoding="utf-8"), str(path))
        except OSError as error:
            raise ProfileInvalid(f"{path}: {error.strerror or error}; check the path") from error
        except UnicodeDecodeError as error:
            raise ProfileInvalid(f"{path}: not UTF-8 text; save it as UTF-8") from error
    return _load_ours(name_or_path)


@cache
def _load_ours(name: str) -> Profile:
    if name not in profile_names():
        close = difflib.get_close_matches(name, profile_names(), n=1)
        advice = f"did you mean {close[0]!r}?" if close else f"there are: {', '.join(profile_names())}"
        raise ProfileInvalid(f"there is no profile {name!r}; {advice} A file of your own ends in .yaml")
    entry = files("dujiang.vendors").joinpath("profile_data", f"{name}.yaml")
    return parse_profile(entry.read_text(encoding="utf-8"), f"{name}.yaml")


def parse_profile(text: str, file: str) -> Profile:
    """Return the profile in a YAML text; raise ProfileInvalid with `file`, path and remedy."""
    try:
        tree = yaml.load(text, Loader=_OneKeyLoader)  # noqa: S506 (a safe loader, only stricter)
    except (yaml.YAMLError, ValueError) as error:
        raise ProfileInvalid(f"{file}: not valid YAML: {error}") from error
    if not isinstance(tree, dict):
        raise ProfileInvalid(f"{file}: must be a mapping with keys such as name, protocol, faces")
    for path, unknown, known in _unknown_keys(Profile, tree, ""):
        close = difflib.get_close_matches(str(unknown), known, n=1)
        advice = f"did you mean `{close[0]}`?" if close else f"known here: {', '.join(known)}"
        raise ProfileInvalid(f"{file}: {path}{unknown}: unknown key; {advice}")
    try:
        return msgspec.convert(tree, Profile)
    except msgspec.ValidationError as error:
        message, _, path = str(error).partition(" - at `$")
        where = path.rstrip("`").removeprefix(".")
        raise ProfileInvalid(f"{file}: {where + ': ' if where else ''}{message}") from error


class _OneKeyLoader(SafeLoader):
    """Refuses a key that is written twice; YAML would silently keep the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if str(key.value) in seen:
                line = key.start_mark.line + 1
                raise ValueError(f"line {line}: `{key.value}` is written twice; remove one")
            seen.add(str(key.value))
        return super().construct_mapping(node, deep)


def _unknown_keys(part: type[Part], tree: Mapping[Any, Any], path: str) -> Iterator[tuple[str, object, list[str]]]:
    """Yield path, key and the known keys for whatever the format has no place for."""
    hints = get_type_hints(part)
    known = list(part.__struct_fields__)
    for key, value in tree.items():
        if key not in known:
            yield path, key, known
            continue
        inner = next((kind for kind in _kinds(hints[key]) if issubclass(kind, Part)), None)
        if inner is None:
            continue
        if isinstance(value, list):
            for index, item in enumerate(value):
                if isinstance(item, dict):
                    yield from _unknown_keys(inner, item, f"{path}{key}[{index}].")
        elif isinstance(value, dict):
            yield from _unknown_keys(inner, value, f"{path}{key}.")


def _kinds(annotation: Any) -> Iterator[type]:
    if isinstance(annotation, type) and not get_args(annotation):
        yield annotation
    for argument in get_args(annotation):
        yield from _kinds(argument)
