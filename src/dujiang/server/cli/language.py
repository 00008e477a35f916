"""The language the command line speaks."""

from __future__ import annotations

import os
from contextvars import ContextVar
from enum import StrEnum


class Language(StrEnum):
    """A language the program speaks."""

    EN = "en"
    ZH = "zh"


_CHOSEN: ContextVar[Language | None] = ContextVar("language", default=None)


def choose_language(language: Language | None) -> None:
    """Speak a language from now on; None leaves it to the environment."""
    _CHOSEN.set(language)


def spoken_language() -> Language:
    """Return the language chosen, else that of the environment, else English."""
    chosen = _CHOSEN.get()
    if chosen is not None:
        return chosen
    names = ("DUJIANG_LANGUAGE", "LC_ALL", "LC_MESSAGES", "LANG")
    locale = next((value for name in names if (value := os.environ.get(name))), "")
    return Language.ZH if locale.lower().startswith("zh") else Language.EN


def say(sentence: str, **values: object) -> str:
    """Return a sentence of `words.WORDS` in the language spoken, its braces filled."""
    # Imported on use: a gateway that starts has nothing to say.
    from dujiang.server.cli.words import WORDS

    english, chinese = WORDS[sentence]
    text = chinese if spoken_language() is Language.ZH else english
    return text.format(**values) if values else text
