"""Requests in another dialect: what maps to what, what is dropped, what is refused and by which name."""

from __future__ import annotations

import json
from typing import Any

import pytest

from dujiang.errors import InvalidRequest
from dujiang.protocols.translation import translate_request
from dujiang.terms import Dialect

CHAT, RESPONSES, MESSAGES = Dialect.CHAT, Dialect.RESPONSES, Dialect.MESSAGES
HI = {"role": "user", "content": "hi"}
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


def chat(**more: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [HI], **more}


def responses(**more: Any) -> dict[str, Any]:
    return {"model": "m", "input": "hi", **more}


def messages(**more: Any) -> dict[str, Any]:
    return {"model": "m", "max_tokens": 100, "messages": [HI], **more}


def translated(body: object, source: Dialect, target: Dialect, **more: Any) -> dict[str, Any]:
    return json.loads(translate_request(json.dumps(body).encode(), source, target, model="vendor-model", **more))


def refusal(body: object, source: Dialect, target: Dialect) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        translated(body, source, target)
    return caught.value


FUNCTION = {"name": "weather", "description": "d", "parameters": SCHEMA}
CHAT_TOOL = {"type": "function", "function": FUNCTION}
MESSAGES_TOOL = {"name": "weather", "description": "d", "input_schema": SCHEMA}
RESPONSES_TOOL = {"type": "function", **FUNCTION, "strict": False}

CALLS = [
    {"id": "a", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Berlin"}'}},
    {"id": "functions.weather:1", "type": "function", "function": {"name": "weather", "arguments": ""}},
]
CHAT_TALK = [
    {"role": "developer", "content": [{"type": "text", "text": "Be brief."}]},
    {"role": "system", "content": "Be kind."},
    {"role": "user", "name": "ann", "content": "Where is it warm?"},
    {"role": "assistant", "content": "I look.", "tool_calls": CALLS, "refusal": None, "annotations": []},
    {"role": "tool", "tool_call_id": "a", "content": "12"},
    {"role": "tool", "tool_call_id": "functions.weather:1", "content": [{"type": "text", "text": "20"}]},
    {"role": "user", "content": "And?"},
]


def test_a_conversation_with_tools_from_chat_to_messages() -> None:
    assert translated(chat(messages=CHAT_TALK, tools=[CHAT_TOOL]), CHAT, MESSAGES) == {
        "model": "vendor-model",
        "max_tokens": 4096,
        "system": [{"type": "text", "text": "Be brief."}, {"type": "text", "text": "Be kind."}],
        "messages": [
            {"role": "user", "content": "Where is it warm?"},
            {
                "role": "assistant",
                "content": [
                    {"type": "text", "text": "I look."},
                    {"type": "tool_use", "id": "a", "name": "weather", "input": {"city": "Berlin"}},
                    {"type": "tool_use", "id": "functions_weather_1", "name": "weather", "input": {}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "a", "content": "12"},
                    {"type": "tool_result", "tool_use_id": "functions_weather_1", "content": "20"},
                    {"type": "text", "text": "And?"},
                ],
            },
        ],
        "tools": [MESSAGES_TOOL],
    }


def test_a_conversation_with_tools_from_chat_to_responses() -> None:
    assert translated(chat(messages=CHAT_TALK, tools=[CHAT_TOOL]), CHAT, RESPONSES) == {
        "model": "vendor-model",
        "store": False,
        "instructions": "Be brief.\n\nBe kind.",
        "input": [
            {"role": "user", "content": "Where is it warm?"},
            {"role": "assistant", "content": "I look."},
            {"type": "function_call", "call_id": "a", "name": "weather", "arguments": '{"city":"Berlin"}'},
            {"type": "function_call", "call_id": "functions.weather:1", "name": "weather", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "a", "output": "12"},
            {"type": "function_call_output", "call_id": "functions.weather:1", "output": "20"},
            {"role": "user", "content": "And?"},
        ],
        "tools": [RESPONSES_TOOL],
    }


def test_a_conversation_with_tools_from_responses_to_chat() -> None:
    given = responses(
        instructions="Be kind.",
        input=[
            {"role": "developer", "content": "Be brief."},
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Where?"}]},
            {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "xx"},
            {
                "type": "message",
                "id": "msg_1",
                "status": "completed",
                "role": "assistant",
                "content": [{"type": "output_text", "text": "I look.", "annotations": [], "logprobs": []}],
            },
            {
                "type": "function_call",
                "id": "fc_1",
                "call_id": "a",
                "name": "weather",
                "arguments": "{}",
                "status": "completed",
            },
            {"type": "function_call", "call_id": "b", "name": "weather", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "a", "output": "12"},
            {"type": "function_call_output", "call_id": "b", "output": [{"type": "input_text", "text": "20"}]},
        ],
        tools=[RESPONSES_TOOL],
        store=False,
        include=["reasoning.encrypted_content"],
        truncation="disabled",
        reasoning={"effort": "low", "summary": "auto"},
    )
    call = {"type": "function", "function": {"name": "weather", "arguments": "{}"}}
    assert translated(given, RESPONSES, CHAT) == {
        "model": "vendor-model",
        "messages": [
            {"role": "system", "content": "Be kind.\n\nBe brief."},
            {"role": "user", "content": "Where?"},
            {"role": "assistant", "content": "I look.", "tool_calls": [{"id": "a", **call}, {"id": "b", **call}]},
            {"role": "tool", "tool_call_id": "a", "content": "12"},
            {"role": "tool", "tool_call_id": "b", "content": "20"},
        ],
        "tools": [{"type": "function", "function": {**FUNCTION, "strict": False}}],
        "reasoning_effort": "low",
    }


def test_a_conversation_with_tools_from_messages_to_chat() -> None:
    given = messages(
        system=[{"type": "text", "text": "Be kind.", "cache_control": {"type": "ephemeral"}}],
        messages=[
            {"role": "user", "content": [{"type": "text", "text": "Where?", "cache_control": {"type": "ephemeral"}}]},
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "hm", "signature": "s"},
                    {"type": "redacted_thinking", "data": "s"},
                    {"type": "text", "text": "I look."},
                    {"type": "tool_use", "id": "a", "name": "weather", "input": {"city": "Berlin"}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {
                        "type": "tool_result",
                        "tool_use_id": "a",
                        "is_error": True,
                        "content": [{"type": "text", "text": "no"}, {"type": "text", "text": "net"}],
                    },
                    {"type": "text", "text": "And?"},
                ],
            },
        ],
        tools=[MESSAGES_TOOL],
    )
    call = {"id": "a", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Berlin"}'}}
    assert translated(given, MESSAGES, CHAT) == {
        "model": "vendor-model",
        "max_completion_tokens": 100,
        "messages": [
            {"role": "system", "content": "Be kind."},
            {"role": "user", "content": "Where?"},
            {"role": "assistant", "content": "I look.", "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "a", "content": "no\nnet"},
            {"role": "user", "content": "And?"},
        ],
        "tools": [CHAT_TOOL],
    }


def test_instructions_in_the_middle_keep_their_place() -> None:
    talk = [HI, {"role": "system", "content": "Now in French."}, HI]
    assert translated(chat(messages=talk), CHAT, MESSAGES)["messages"] == talk
    assert translated(chat(messages=talk), CHAT, RESPONSES)["input"] == talk
    assert translated(messages(messages=talk), MESSAGES, CHAT)["messages"] == talk


def test_the_results_of_tools_come_first_in_a_message() -> None:
    talk = [
        HI,
        {"type": "function_call", "call_id": "a", "name": "weather", "arguments": "{}"},
        HI,
        {"type": "function_call_output", "call_id": "a", "output": "12"},
    ]
    last = translated(responses(input=talk), RESPONSES, MESSAGES)["messages"][-1]
    assert [block["type"] for block in last["content"]] == ["tool_result", "text"]


def test_neighbours_of_one_role_become_one_message_and_empty_text_goes() -> None:
    talk = [HI, {"role": "user", "content": ""}, HI, {"role": "assistant", "content": ""}, HI]
    hi = {"type": "text", "text": "hi"}
    assert translated(chat(messages=talk), CHAT, MESSAGES)["messages"] == [{"role": "user", "content": [hi, hi, hi]}]


PNG = "data:image/png;base64,iVBORw0KGgo="
PDF = "data:application/pdf;base64,JVBERi0="


def user(*parts: object) -> list[object]:
    return [{"role": "user", "content": list(parts)}]


@pytest.mark.parametrize(
    ("in_chat", "in_messages", "in_responses"),
    [
        (
            {"type": "image_url", "image_url": {"url": "https://e.com/a.png"}},
            {"type": "image", "source": {"type": "url", "url": "https://e.com/a.png"}},
            {"type": "input_image", "detail": "auto", "image_url": "https://e.com/a.png"},
        ),
        (
            {"type": "image_url", "image_url": {"url": PNG}},
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}},
            {"type": "input_image", "detail": "auto", "image_url": PNG},
        ),
        (
            {"type": "file", "file": {"filename": "a.pdf", "file_data": PDF}},
            {
                "type": "document",
                "title": "a.pdf",
                "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="},
            },
            {"type": "input_file", "filename": "a.pdf", "file_data": PDF},
        ),
        (
            {"type": "file", "file": {"filename": "a.txt", "file_data": "data:text/plain;base64,aGk="}},
            {
                "type": "document",
                "title": "a.txt",
                "source": {"type": "text", "media_type": "text/plain", "data": "hi"},
            },
            {"type": "input_file", "filename": "a.txt", "file_data": "data:text/plain;base64,aGk="},
        ),
    ],
    ids=["address", "picture", "pdf", "text"],
)
def test_pictures_and_files_in_every_direction(
    in_chat: dict[str, Any], in_messages: dict[str, Any], in_responses: dict[str, Any]
) -> None:
    bodies = {
        CHAT: chat(messages=user(in_chat)),
        MESSAGES: messages(messages=user(in_messages)),
        RESPONSES: responses(input=user(in_responses)),
    }
    wanted = {CHAT: in_chat, MESSAGES: in_messages, RESPONSES: in_responses}
    for source, body in bodies.items():
        for target in bodies:
            if source is not target:
                out = translated(body, source, target)
                [message] = out["input" if target is RESPONSES else "messages"]
                [part] = message["content"]
                if target is CHAT and "image_url" in part:
                    part["image_url"].pop("detail", None)
                assert part == wanted[target]


@pytest.mark.parametrize("target", [MESSAGES, RESPONSES])
def test_tool_choices_from_chat(target: Dialect) -> None:
    named = {"type": "function", "function": {"name": "weather"}}
    wanted = {
        MESSAGES: [{"type": "auto"}, {"type": "none"}, {"type": "any"}, {"type": "tool", "name": "weather"}],
        RESPONSES: ["auto", "none", "required", {"type": "function", "name": "weather"}],
    }[target]
    for given, expected in zip(["auto", "none", "required", named], wanted, strict=True):
        assert translated(chat(tools=[CHAT_TOOL], tool_choice=given), CHAT, target)["tool_choice"] == expected
    serial = translated(chat(tools=[CHAT_TOOL], parallel_tool_calls=False), CHAT, target)
    if target is MESSAGES:
        assert serial["tool_choice"] == {"type": "auto", "disable_parallel_tool_use": True}
    else:
        assert serial["parallel_tool_calls"] is False


@pytest.mark.parametrize(
    ("given", "target", "expected"),
    [
        ({"max_tokens": 5}, MESSAGES, {"max_tokens": 5}),
        ({"max_tokens": 5, "max_completion_tokens": 7}, RESPONSES, {"max_output_tokens": 7}),
        ({"temperature": 0.5, "top_p": 0.9}, MESSAGES, {"temperature": 0.5, "top_p": 0.9}),
        ({"stop": "END"}, MESSAGES, {"stop_sequences": ["END"]}),
        ({"reasoning_effort": "high"}, MESSAGES, {"output_config": {"effort": "high"}}),
        ({"reasoning_effort": "minimal"}, MESSAGES, {"output_config": {"effort": "low"}}),
        ({"reasoning_effort": "none"}, MESSAGES, {"thinking": {"type": "disabled"}}),
        ({"reasoning_effort": "high"}, RESPONSES, {"reasoning": {"effort": "high"}}),
        ({"user": "u1"}, MESSAGES, {"metadata": {"user_id": "u1"}}),
        ({"user": "u1"}, RESPONSES, {"user": "u1"}),
        ({"verbosity": "low"}, RESPONSES, {"text": {"verbosity": "low"}}),
        ({"metadata": {"a": "b"}, "service_tier": "flex"}, RESPONSES, {"metadata": {"a": "b"}, "service_tier": "flex"}),
        ({"prompt_cache_key": "k"}, RESPONSES, {"prompt_cache_key": "k"}),
        ({"stream": True}, RESPONSES, {"stream": True}),
        ({"response_format": {"type": "json_object"}}, RESPONSES, {"text": {"format": {"type": "json_object"}}}),
        (
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "n", "schema": SCHEMA, "strict": True},
                }
            },
            MESSAGES,
            {"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}},
        ),
        (
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "n", "schema": SCHEMA, "strict": True},
                }
            },
            RESPONSES,
            {"text": {"format": {"type": "json_schema", "name": "n", "schema": SCHEMA, "strict": True}}},
        ),
        ({"response_format": {"type": "text"}}, MESSAGES, {}),
    ],
)
def test_settings_from_chat(given: dict[str, Any], target: Dialect, expected: dict[str, Any]) -> None:
    out = translated(chat(**given), CHAT, target)
    plain = translated(chat(), CHAT, target)
    assert {name: value for name, value in out.items() if plain.get(name) != value} == expected


@pytest.mark.parametrize(
    ("given", "target", "expected"),
    [
        ({"stop_sequences": ["END"]}, CHAT, {"stop": ["END"]}),
        ({"metadata": {"user_id": "u1"}}, CHAT, {"user": "u1"}),
        ({"output_config": {"effort": "max"}}, CHAT, {"reasoning_effort": "max"}),
        ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, CHAT, {"reasoning_effort": "low"}),
        ({"thinking": {"type": "enabled", "budget_tokens": 5000}}, CHAT, {"reasoning_effort": "medium"}),
        ({"thinking": {"type": "enabled", "budget_tokens": 32000}}, RESPONSES, {"reasoning": {"effort": "high"}}),
        ({"thinking": {"type": "adaptive"}}, CHAT, {}),
        ({"thinking": {"type": "disabled"}}, CHAT, {}),
        ({"service_tier": "auto", "speed": "standard", "cache_control": {"type": "ephemeral"}}, CHAT, {}),
        ({"stream": True}, CHAT, {"stream": True, "stream_options": {"include_usage": True}}),
        (
            {"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}},
            CHAT,
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "answer", "schema": SCHEMA, "strict": True},
                }
            },
        ),
    ],
)
def test_settings_from_messages(given: dict[str, Any], target: Dialect, expected: dict[str, Any]) -> None:
    out = translated(messages(**given), MESSAGES, target)
    plain = translated(messages(), MESSAGES, target)
    assert {name: value for name, value in out.items() if plain.get(name) != value} == expected


def test_tool_choices_from_messages() -> None:
    def choice(given: dict[str, Any]) -> dict[str, Any]:
        return translated(messages(tools=[MESSAGES_TOOL], tool_choice=given), MESSAGES, CHAT)

    assert choice({"type": "any"})["tool_choice"] == "required"
    assert choice({"type": "none"})["tool_choice"] == "none"
    assert choice({"type": "tool", "name": "weather"})["tool_choice"] == CHAT_TOOL | {"function": {"name": "weather"}}
    serial = choice({"type": "auto", "disable_parallel_tool_use": True})
    assert (serial["tool_choice"], serial["parallel_tool_calls"]) == ("auto", False)


def test_the_vendors_name_for_the_limit_of_the_output() -> None:
    assert translated(messages(), MESSAGES, CHAT, chat_max_tokens_field="max_tokens")["max_tokens"] == 100
    assert translated(chat(), CHAT, MESSAGES, max_output_tokens_default=7)["max_tokens"] == 7


# What is dropped: it changes nothing of what the model is asked.


@pytest.mark.parametrize(
    ("body", "source", "target"),
    [
        (
            chat(seed=1, store=True, stream_options={"include_usage": True}, prediction={"type": "content"}),
            CHAT,
            MESSAGES,
        ),
        (chat(metadata={"a": "b"}, service_tier="flex", prompt_cache_key="k", safety_identifier="s"), CHAT, MESSAGES),
        (chat(n=1, logprobs=False, top_logprobs=0, frequency_penalty=0, presence_penalty=0.0), CHAT, MESSAGES),
        (chat(logit_bias={}, modalities=["text"], verbosity="medium", tools=[], audio=None, n=None), CHAT, MESSAGES),
        (responses(max_tool_calls=3, stream_options={}, background=False, top_logprobs=0), RESPONSES, MESSAGES),
        (messages(diagnostics={}, speed="fast", service_tier="standard_only"), MESSAGES, CHAT),
    ],
)
def test_what_is_harmless_is_dropped(body: dict[str, Any], source: Dialect, target: Dialect) -> None:
    plain = {CHAT: chat, RESPONSES: responses, MESSAGES: messages}[source]()
    assert translated(body, source, target) == translated(plain, source, target)


# What is refused, by its path.

AUDIO = {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}
ASSISTANT = {"role": "assistant", "content": "x"}


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ({"n": 2}, "n"),
        ({"logprobs": True}, "logprobs"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"frequency_penalty": 0.5}, "frequency_penalty"),
        ({"presence_penalty": -1}, "presence_penalty"),
        ({"logit_bias": {"1": 5}}, "logit_bias"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"audio": {"voice": "alloy", "format": "wav"}}, "audio"),
        ({"web_search_options": {}}, "web_search_options"),
        ({"functions": [FUNCTION]}, "functions"),
        ({"function_call": "auto"}, "function_call"),
        ({"moderation": {}}, "moderation"),
        ({"something_new": 1}, "something_new"),
        ({"tools": [{"type": "custom", "custom": {"name": "x"}}]}, "tools[0].type"),
        ({"tool_choice": {"type": "allowed_tools", "allowed_tools": {}}}, "tool_choice.type"),
        ({"messages": [{"role": "function", "name": "f", "content": "x"}]}, "messages[0].role"),
        ({"messages": [HI, {"role": "assistant", "audio": {"id": "a"}}, HI]}, "messages[1].audio"),
        ({"messages": [HI, {"role": "assistant", "function_call": {}}, HI]}, "messages[1].function_call"),
        ({"messages": [{"role": "user", "content": [{"type": "video"}]}]}, "messages[0].content[0].type"),
        ({"messages": [{"role": "user", "content": "x", "weight": 1}]}, "messages[0].weight"),
    ],
)
@pytest.mark.parametrize("target", [MESSAGES, RESPONSES])
def test_what_chat_cannot_take_with_it(given: dict[str, Any], param: str, target: Dialect) -> None:
    error = refusal(chat(**given), CHAT, target)
    assert error.param == param
    assert error.message.startswith(param)


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ({"temperature": 1.5}, "temperature"),
        ({"verbosity": "low"}, "verbosity"),
        ({"reasoning_effort": "extreme"}, "reasoning_effort"),
        ({"response_format": {"type": "json_object"}}, "response_format.type"),
        ({"messages": user(AUDIO)}, "messages[0].content[0]"),
        ({"messages": user({"type": "file", "file": {"file_id": "f"}})}, "messages[0].content[0].file"),
        (
            {"messages": user({"type": "file", "file": {"file_data": "data:text/csv;base64,YQ=="}})},
            "messages[0].content[0].file",
        ),
        (
            {"messages": user({"type": "image_url", "image_url": {"url": "data:image/tiff;base64,AAAA"}})},
            "messages[0].content[0].image_url.url",
        ),
        ({"messages": [HI, ASSISTANT]}, "messages[1]"),
        (
            {
                "messages": [
                    HI,
                    {**ASSISTANT, "tool_calls": [{**CALLS[0], "function": {"name": "f", "arguments": "[1"}}]},
                    HI,
                ]
            },
            "messages[1].tool_calls[0].function.arguments",
        ),
    ],
)
def test_what_messages_cannot_take_from_chat(given: dict[str, Any], param: str) -> None:
    assert refusal(chat(**given), CHAT, MESSAGES).param == param


@pytest.mark.parametrize(
    ("given", "param"),
    [({"stop": ["x"]}, "stop"), ({"messages": user(AUDIO)}, "messages[0].content[0]")],
)
def test_what_responses_cannot_take_from_chat(given: dict[str, Any], param: str) -> None:
    assert refusal(chat(**given), CHAT, RESPONSES).param == param


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"prompt": {"id": "p"}}, "prompt"),
        ({"store": True}, "store"),
        ({"background": True}, "background"),
        ({"truncation": "auto"}, "truncation"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"include": ["message.output_text.logprobs"]}, "include[0]"),
        ({"context_management": [{}]}, "context_management"),
        ({"reasoning": {"mode": "pro"}}, "reasoning.mode"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"tools": [{**RESPONSES_TOOL, "defer_loading": True}]}, "tools[0].defer_loading"),
        ({"tool_choice": {"type": "web_search"}}, "tool_choice.type"),
        ({"text": {"format": {"type": "grammar"}}}, "text.format.type"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input[0]"),
        ({"input": [{"type": "web_search_call", "id": "x"}]}, "input[0].type"),
        ({"input": [{"role": "user", "content": [{"type": "input_video"}]}]}, "input[0].content[0].type"),
        ({"something_new": 1}, "something_new"),
    ],
)
@pytest.mark.parametrize("target", [MESSAGES, CHAT])
def test_what_responses_cannot_take_with_it(given: dict[str, Any], param: str, target: Dialect) -> None:
    error = refusal(responses(**given), RESPONSES, target)
    assert error.param == param
    assert error.message.startswith(param)


def test_files_by_address_and_by_id() -> None:
    by_address = responses(input=user({"type": "input_file", "file_url": "https://e.com/a.pdf"}))
    assert refusal(by_address, RESPONSES, CHAT).param == "input[0].content[0]"
    [message] = translated(by_address, RESPONSES, MESSAGES)["messages"]
    assert message["content"] == [{"type": "document", "source": {"type": "url", "url": "https://e.com/a.pdf"}}]
    image = responses(input=user({"type": "input_image", "file_id": "file_1", "detail": "auto"}))
    for target in (CHAT, MESSAGES):
        assert refusal(image, RESPONSES, target).param == "input[0].content[0].file_id"


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ({"top_k": 5}, "top_k"),
        ({"container": "c"}, "container"),
        ({"mcp_servers": [{}]}, "mcp_servers"),
        ({"inference_geo": "eu"}, "inference_geo"),
        ({"output_config": {"task_budget": {}}}, "output_config.task_budget"),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools[0].type"),
        ({"tools": [{**MESSAGES_TOOL, "input_examples": [{}]}]}, "tools[0].input_examples"),
        ({"messages": [HI, ASSISTANT]}, "messages[1]"),
        ({"messages": user({"type": "search_result"})}, "messages[0].content[0].type"),
        (
            {"messages": user({"type": "image", "source": {"type": "file", "file_id": "x"}})},
            "messages[0].content[0].source.type",
        ),
        (
            {
                "messages": user(
                    {
                        "type": "document",
                        "source": {"type": "url", "url": "https://e.com"},
                        "citations": {"enabled": True},
                    }
                )
            },
            "messages[0].content[0].citations.enabled",
        ),
        (
            {"messages": user({"type": "document", "source": {"type": "text", "data": "x"}, "context": "c"})},
            "messages[0].content[0].context",
        ),
        ({"something_new": 1}, "something_new"),
    ],
)
@pytest.mark.parametrize("target", [CHAT, RESPONSES])
def test_what_messages_cannot_take_with_it(given: dict[str, Any], param: str, target: Dialect) -> None:
    assert refusal(messages(**given), MESSAGES, target).param == param


def test_what_only_one_of_them_can_take_from_messages() -> None:
    picture = {"type": "image", "source": {"type": "url", "url": "https://e.com/a.png"}}
    result = messages(messages=user({"type": "tool_result", "tool_use_id": "a", "content": [picture]}))
    assert refusal(result, MESSAGES, CHAT).param == "messages[0].content[0].content[0].source"
    [item] = translated(result, MESSAGES, RESPONSES)["input"]
    assert item["output"] == [{"type": "input_image", "detail": "auto", "image_url": "https://e.com/a.png"}]
    assert refusal(messages(stop_sequences=["a"]), MESSAGES, RESPONSES).param == "stop_sequences"
    assert refusal(messages(stop_sequences=list("abcde")), MESSAGES, CHAT).param == "stop_sequences"


@pytest.mark.parametrize(
    ("body", "source", "param"),
    [
        ({}, CHAT, "messages"),
        (chat(messages=[]), CHAT, "messages"),
        (chat(messages="hi"), CHAT, "messages"),
        (chat(messages=["hi"]), CHAT, "messages[0]"),
        (chat(messages=[{"content": "x"}]), CHAT, "messages[0].role"),
        (chat(messages=[{"role": "user", "content": 3}]), CHAT, "messages[0].content"),
        (chat(messages=[{"role": "tool", "content": "x"}]), CHAT, "messages[0].tool_call_id"),
        (chat(max_tokens=0), CHAT, "max_tokens"),
        (chat(max_tokens="5"), CHAT, "max_tokens"),
        (chat(max_tokens=True), CHAT, "max_tokens"),
        (chat(temperature="hot"), CHAT, "temperature"),
        (chat(stream="yes"), CHAT, "stream"),
        (chat(stop=[1]), CHAT, "stop"),
        (chat(tools={}), CHAT, "tools"),
        (chat(tools=[{"type": "function"}]), CHAT, "tools[0].function"),
        (chat(tools=[{"type": "function", "function": {"name": 1}}]), CHAT, "tools[0].function.name"),
        (chat(response_format="json"), CHAT, "response_format"),
        (
            chat(messages=user({"type": "image_url", "image_url": {"url": "data:x"}})),
            CHAT,
            "messages[0].content[0].image_url.url",
        ),
        (chat(messages=user({"type": "file", "file": {}})), CHAT, "messages[0].content[0].file"),
        ({"model": "m"}, RESPONSES, "input"),
        (responses(input=[]), RESPONSES, "input"),
        (responses(input=user({"type": "input_image"})), RESPONSES, "input[0].content[0]"),
        (responses(input=[{"type": "function_call", "name": "f"}]), RESPONSES, "input[0].call_id"),
        ([], CHAT, None),
        (chat(messages=[{"role": "system", "content": "x"}]), CHAT, None),
    ],
)
def test_mistakes_are_named(body: Any, source: Dialect, param: str | None) -> None:
    assert refusal(body, source, MESSAGES).param == param


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"messages": [HI]}, "max_tokens"),
        (messages(messages=[{"role": "user"}]), "messages[0].content"),
        (messages(messages=[{"role": "robot", "content": "x"}]), "messages[0].role"),
        (messages(tool_choice={"type": "perhaps"}), "tool_choice.type"),
        (messages(tools=[{"input_schema": {}}]), "tools[0].name"),
        (messages(messages=user({"type": "tool_use", "name": "x"})), "messages[0].content[0].id"),
    ],
)
def test_mistakes_in_messages_are_named(body: dict[str, Any], param: str) -> None:
    assert refusal(body, MESSAGES, CHAT).param == param


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[" * 50_000, b'{"messages":'])
def test_what_is_no_json_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidRequest):
        translate_request(body, CHAT, MESSAGES, model="m")


def test_embeddings_are_not_translated() -> None:
    for source, target in [(Dialect.EMBEDDINGS, CHAT), (CHAT, Dialect.EMBEDDINGS)]:
        assert refusal(chat(), source, target).param is None
