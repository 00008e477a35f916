"""Writes docs/reference/configuration.md and its Chinese twin from the schema, so that they cannot differ."""

from __future__ import annotations

from collections.abc import Iterator
from contextvars import copy_context
from enum import StrEnum
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from dujiang.config.schema import Config
from dujiang.config.units import format_duration, parse_duration, parse_size, parse_window
from dujiang.server.cli.language import Language, choose_language
from dujiang.server.cli.starter import SIMULATED, starter
from dujiang.server.configuration_chinese import MEANINGS, WORDS
from dujiang.vendors.profiles import load_profile

_UNITS = {parse_duration: "duration", parse_size: "size", parse_window: "window"}
_KINDS = {str: "text", int: "number", bool: "boolean", SecretStr: "secret"}
_SIZES = ((1024**3, "GiB"), (1024**2, "MiB"), (1024, "KiB"))


def configuration_page(language: Language) -> str:
    """Return the reference page of the configuration as Markdown."""
    page = _Page(language)
    lines = [f"# {page.say('title')}", ""]
    for word in ("made", "file", "references", "units", "mistakes"):
        lines += [page.say(word), ""]
    lines += [page.say("example"), "", "```yaml", _example(language).rstrip(), "```", ""]
    for path, name, field in _keys(Config, ""):
        lines += page.key(path, name, field)
    return "\n".join(lines).rstrip() + "\n"


def documented_keys() -> dict[str, str]:
    """Return every key's path with its meaning in English; a key without one has an empty meaning."""
    return {path: _meaning(field) for path, _, field in _keys(Config, "")}


def _keys(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, str, FieldInfo]]:
    """Yield path, name and field of every key, each before those within it."""
    for name, field in model.model_fields.items():
        path = f"{prefix}{name}"
        yield path, name, field
        inner = _model_in(field.annotation)
        # Limits look alike everywhere: the first place tells their keys, the others refer to it.
        if inner is not None and not (name == "limits" and prefix != _LIMITS_TOLD_AT):
            yield from _keys(inner, path + _below(field.annotation))


_LIMITS_TOLD_AT = "vendors.NAME.credentials[]."


def _below(annotation: Any) -> str:
    origin = get_origin(annotation)
    return "[]." if origin is tuple else ".NAME." if origin is dict else "."


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((model for one in get_args(annotation) if (model := _model_in(one)) is not None), None)


def _meaning(field: FieldInfo) -> str:
    return " ".join((field.description or "").split())


def _example(language: Language) -> str:
    def written() -> str:
        choose_language(language)
        return starter(load_profile(SIMULATED), SIMULATED).text

    return copy_context().run(written)


class _Page:
    """One page in one language."""

    def __init__(self, language: Language) -> None:
        self._column = 0 if language is Language.EN else 1

    def say(self, word: str) -> str:
        return WORDS[word][self._column]

    def key(self, path: str, name: str, field: FieldInfo) -> list[str]:
        """Return the lines of one key: heading, meaning, kind and default."""
        english = _meaning(field)
        meaning = MEANINGS[english] if self._column else english
        level = "##" if path == name else "###"
        lines = [f"{level} `{path}`", "", meaning, ""]
        kind = self._kind(field.annotation, field.metadata)
        if kind == self.say("keys_below"):
            return lines
        if name == "limits" and path != f"{_LIMITS_TOLD_AT}limits":
            kind = self.say("limits_told")
        facts = f"{self.say('kind')}{self.say('colon')}{kind}{self._bounds(field)}{self.say('stop')}"
        default = self._default(field)
        if default:
            facts += f"{self.say('gap')}{default}{self.say('stop')}"
        return [*lines, facts, ""]

    def _kind(self, annotation: Any, metadata: list[Any] | tuple[Any, ...] = ()) -> str:
        for one in metadata:
            if (unit := _UNITS.get(getattr(one, "func", None))) is not None:  # type: ignore[arg-type]
                return self.say(unit)
        origin, arguments = get_origin(annotation), get_args(annotation)
        if hasattr(annotation, "__metadata__"):
            return self._kind(arguments[0], annotation.__metadata__)
        if origin is Literal:
            return self._choice(arguments)
        if origin in (Union, UnionType):
            return self._kind(next(one for one in arguments if one is not type(None)))
        if origin is tuple:
            inner = self._kind(arguments[0])
            return self.say("list_of_keys") if inner == self.say("keys_below") else self.say("list").format(inner)
        if origin is dict:
            return self.say("by_name")
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            return self.say("keys_below")
        if isinstance(annotation, type) and issubclass(annotation, StrEnum):
            return self._choice([one.value for one in annotation])
        return self.say(_KINDS[annotation])

    def _choice(self, values: Any) -> str:
        return self.say("one_of").format(self.say("comma").join(f"`{value}`" for value in values))

    def _bounds(self, field: FieldInfo) -> str:
        told = []
        for one in field.metadata:
            for sign, attribute in (("≥", "ge"), (">", "gt"), ("≤", "le")):
                bound = getattr(one, attribute, None)
                if bound is not None:
                    told.append(f"{sign} {bound:,}")
            if getattr(one, "min_length", None):
                told.append(self.say("at_least").format(one.min_length))
        return f"{self.say('comma')}{self.say('comma').join(told)}" if told else ""

    def _default(self, field: FieldInfo) -> str:
        if field.is_required():
            return self.say("required")
        value = field.get_default(call_default_factory=True)
        if value is None or value in ((), {}, "") or isinstance(value, BaseModel):
            return ""
        kind = self._kind(field.annotation, field.metadata)
        if kind == self.say("duration"):
            value = format_duration(value)
        elif kind == self.say("size"):
            value = _size(value)
        elif isinstance(value, bool):
            value = str(value).lower()
        elif isinstance(value, tuple):
            value = f"[{', '.join(map(str, value))}]"
        return f"{self.say('default')}{self.say('colon')}`{value}`"


def _size(size: int) -> str:
    return next((f"{size // unit}{name}" for unit, name in _SIZES if size % unit == 0), str(size))
