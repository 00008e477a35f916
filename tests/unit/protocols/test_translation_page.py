"""The page on translation tells the fate of every member that the official SDKs can send."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from anthropic.types.message_create_params import MessageCreateParamsBase
from openai.types.chat.completion_create_params import CompletionCreateParamsBase
from openai.types.responses.response_create_params import ResponseCreateParamsBase

from dujiang.errors import InvalidRequest
from dujiang.protocols.translation import translate_request
from dujiang.terms import Dialect

DOCS = Path(__file__).parents[3] / "docs" / "reference"
MEMBERS = {
    Dialect.CHAT: CompletionCreateParamsBase.__annotations__,
    Dialect.RESPONSES: ResponseCreateParamsBase.__annotations__,
    Dialect.MESSAGES: MessageCreateParamsBase.__annotations__,
}
HI = [{"role": "user", "content": "hi"}]
LEAST = {
    Dialect.CHAT: {"messages": HI},
    Dialect.RESPONSES: {"input": HI},
    Dialect.MESSAGES: {"messages": HI, "max_tokens": 9},
}


def words(page: str) -> set[str]:
    quoted = re.findall(r"`([^`]+)`", (DOCS / page).read_text())
    return {part for text in quoted for part in re.split(r"[.:\[\] ]+", text)}


@pytest.mark.parametrize("page", ["translation.md", "translation.zh.md"])
@pytest.mark.parametrize("dialect", MEMBERS)
def test_every_member_is_on_the_page(page: str, dialect: Dialect) -> None:
    assert set(MEMBERS[dialect]) - words(page) == set()


def test_both_languages_tell_the_same() -> None:
    assert words("translation.md") == words("translation.zh.md")


@pytest.mark.parametrize(("dialect", "name"), [(dialect, name) for dialect in MEMBERS for name in MEMBERS[dialect]])
def test_a_member_that_is_not_understood_is_refused_by_its_name_and_never_lost(dialect: Dialect, name: str) -> None:
    """Give every member a value that none can have: it is named, or it is on the page as dropped or bookkeeping."""
    harmless = {
        Dialect.CHAT: "model seed store stream_options prediction prompt_cache_options metadata service_tier "
        "prompt_cache_key prompt_cache_retention safety_identifier",
        Dialect.RESPONSES: "model stream_options prompt_cache_options max_tool_calls metadata service_tier "
        "prompt_cache_key prompt_cache_retention safety_identifier",
        Dialect.MESSAGES: "model service_tier cache_control speed diagnostics",
    }[dialect].split()
    body = json.dumps({**LEAST[dialect], name: [{"no": "such value"}]}).encode()
    target = Dialect.CHAT if dialect is not Dialect.CHAT else Dialect.MESSAGES
    if name in harmless:
        translate_request(body, dialect, target, model="m")
        return
    with pytest.raises(InvalidRequest) as caught:
        translate_request(body, dialect, target, model="m")
    assert caught.value.param is not None
    assert re.split(r"[.\[]", caught.value.param)[0] == name
