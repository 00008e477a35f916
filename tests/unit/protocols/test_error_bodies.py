"""Errors as every dialect's official SDK and its users meet them, and vendors' errors as they really look."""

import json
import unicodedata

import pytest
from anthropic.types.shared import ErrorResponse
from hypothesis import given
from hypothesis import strategies as st
from openai.types.responses import ResponseErrorEvent

from dujiang import errors
from dujiang.errors import DujiangError, RateLimited, VendorFailed, VendorRefused
from dujiang.protocols.error_bodies import (
    VendorError,
    error_body,
    error_event,
    error_headers,
    error_status,
    filtered_message,
    vendor_error,
)
from dujiang.protocols.sse import Decoder
from dujiang.terms import Dialect

EVERY_ERROR = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, DujiangError)]
ANTHROPIC_TYPES = {
    "invalid_request_error",
    "authentication_error",
    "permission_error",
    "not_found_error",
    "request_too_large",
    "rate_limit_error",
    "api_error",
    "timeout_error",
    "overloaded_error",
    "billing_error",
}


@pytest.mark.parametrize("dialect", [Dialect.CHAT, Dialect.RESPONSES, Dialect.EMBEDDINGS])
def test_an_openai_body_has_its_four_members(dialect: Dialect) -> None:
    error = errors.InvalidRequest("n must be 1", param="n")
    assert json.loads(error_body(error, dialect, "req_1")) == {
        "error": {"message": "n must be 1", "type": "invalid_request_error", "param": "n", "code": None}
    }


@pytest.mark.parametrize("kind", EVERY_ERROR)
def test_every_error_has_a_body_in_every_dialect(kind: type[DujiangError]) -> None:
    for dialect in Dialect:
        body = json.loads(error_body(kind(), dialect, "req_1"))
        assert body["error"]["message"] == kind().message
    assert body.keys() == {"error"}
    body = json.loads(error_body(kind(), Dialect.MESSAGES, "req_1"))
    assert body["error"]["type"] in ANTHROPIC_TYPES
    if body["error"]["type"] != "request_too_large":  # documented, and missing in the SDK's own list
        assert ErrorResponse.model_validate(body, strict=True).request_id == "req_1"


@pytest.mark.parametrize(
    ("error", "kind", "status"),
    [
        (errors.InvalidRequest(), "invalid_request_error", 400),
        (errors.InvalidKey(), "authentication_error", 401),
        (errors.NotAllowed(), "permission_error", 403),
        (errors.ModelNotFound(), "not_found_error", 404),
        (errors.MethodNotAllowed(), "invalid_request_error", 405),
        (errors.BodyTooLarge(), "request_too_large", 413),
        (errors.RateLimited(), "rate_limit_error", 429),
        (errors.QuotaExhausted(), "billing_error", 429),
        (errors.QueueFull(), "overloaded_error", 529),
        (errors.VendorFailed(), "api_error", 502),
        (errors.VendorTimeout(), "timeout_error", 504),
        (errors.DujiangError(), "api_error", 500),
    ],
)
def test_anthropic_types_and_statuses(error: DujiangError, kind: str, status: int) -> None:
    assert json.loads(error_body(error, Dialect.MESSAGES, "r"))["error"]["type"] == kind
    assert error_status(error, Dialect.MESSAGES) == status
    assert error_status(error, Dialect.CHAT) == (503 if status == 529 else status)


def test_anthropic_has_the_code_in_its_details_and_the_field_in_its_message() -> None:
    body = json.loads(error_body(errors.ContextTooLong("too long", param="messages"), Dialect.MESSAGES, "r"))
    assert body["error"]["details"] == {"error_code": "context_length_exceeded"}
    assert body["error"]["message"] == "messages: too long"


def test_error_events_do_not_end_the_stream_as_if_all_was_well() -> None:
    error = VendorFailed("gone")
    body = b'{"error":{"message":"gone","type":"server_error","param":null,"code":"upstream_error"}}'
    assert error_event(error, Dialect.CHAT, "r") == b"data: " + body + b"\n\n"
    [event] = Decoder().feed(error_event(error, Dialect.MESSAGES, "req_9"))
    assert event.event == "error"
    assert json.loads(event.data) == json.loads(error_body(error, Dialect.MESSAGES, "req_9"))
    [event] = Decoder().feed(error_event(error, Dialect.RESPONSES, "r", sequence=12))
    assert event.event == "error"
    spoken = ResponseErrorEvent.model_validate_json(event.data, strict=True)
    assert (spoken.code, spoken.message, spoken.sequence_number) == ("upstream_error", "gone", 12)


@pytest.mark.parametrize(
    ("wait_ns", "seconds", "milliseconds"),
    [
        (0, b"0", b"0"),
        (1, b"1", b"1"),
        (1_000_000_000, b"1", b"1000"),
        (1_000_000_001, b"2", b"1001"),
        (-5, b"0", b"0"),
    ],
)
def test_waits_are_rounded_up(wait_ns: int, seconds: bytes, milliseconds: bytes) -> None:
    headers = dict(error_headers(RateLimited(retry_after_ns=wait_ns)))
    assert headers == {b"retry-after": seconds, b"retry-after-ms": milliseconds}


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (errors.QuotaExhausted(), True),
        (errors.VendorFailed(), True),
        (errors.VendorTimeout(), True),
        (errors.DujiangError(), True),
        (errors.RequestTimeout(), True),
        (errors.RateLimited(), False),
        (errors.QueueFull(), False),
        (errors.InvalidRequest(), False),
        (errors.InvalidKey(), False),
    ],
)
def test_sdks_are_told_not_to_repeat_what_cannot_succeed(error: DujiangError, expected: bool) -> None:
    assert ((b"x-should-retry", b"false") in error_headers(error)) is expected


def test_an_errors_own_headers_go_along_and_cannot_split_the_answer() -> None:
    error = RateLimited(headers={"X-RateLimit-Limit-Requests": "60", "x-bad": "a\r\nset-cookie: b"})
    assert error_headers(error) == [(b"x-ratelimit-limit-requests", b"60")]


# Vendors' errors.

SHAPES = {
    "openai": (
        429,
        {
            "error": {
                "message": "Rate limit",
                "type": "requests",
                "param": None,
                "code": "rate_limit_exceeded",
            }
        },
        ("rate_limit_exceeded", "requests", "Rate limit"),
    ),
    "openai without a code": (
        400,
        {"error": {"message": "bad", "type": "invalid_request_error", "param": "n", "code": None}},
        ("invalid_request_error", "invalid_request_error", "bad"),
    ),
    "anthropic": (
        529,
        {
            "type": "error",
            "error": {"type": "overloaded_error", "message": "Overloaded"},
            "request_id": "req_1",
        },
        ("overloaded_error", "overloaded_error", "Overloaded"),
    ),
    "anthropic with details": (
        429,
        {
            "type": "error",
            "error": {
                "type": "rate_limit_error",
                "message": "x",
                "details": {"error_code": "ramp_limit_exceeded"},
            },
        },
        ("ramp_limit_exceeded", "rate_limit_error", "x"),
    ),
    "dashscope": (
        429,
        {"code": "Throttling.RateQuota", "message": "Requests rate limit exceeded", "request_id": "abc"},
        ("Throttling.RateQuota", None, "Requests rate limit exceeded"),
    ),
    "zhipu": (429, {"error": {"code": "1302", "message": "并发数过高"}}, ("1302", None, "并发数过高")),
    "qianfan v1": (
        200,
        {"error_code": 18, "error_msg": "Open api qps request limit reached", "id": "as-1"},
        ("18", None, "Open api qps request limit reached"),
    ),
    "qianfan v2": (
        429,
        {
            "error": {"code": "rpm_rate_limit_exceeded", "message": "m", "type": "rate_limit_error"},
            "id": "as-1",
        },
        ("rpm_rate_limit_exceeded", "rate_limit_error", "m"),
    ),
    "tencent": (
        200,
        {"Response": {"Error": {"Code": "LimitExceeded", "Message": "too many"}, "RequestId": "r"}},
        ("LimitExceeded", None, "too many"),
    ),
    "iflytek": (
        200,
        {"header": {"code": 11202, "message": "SecLimit", "sid": "s"}},
        ("11202", None, "SecLimit"),
    ),
    "openrouter": (429, {"error": {"code": 429, "message": "slow"}}, ("429", None, "slow")),
    "vllm": (
        400,
        {"object": "error", "message": "bad", "type": "BadRequestError", "param": None, "code": 400},
        ("BadRequestError", "BadRequestError", "bad"),
    ),
    "ollama": (404, {"error": "model not found"}, (None, None, "model not found")),
    "fastapi": (
        422,
        {"detail": [{"loc": ["body", "n"], "msg": "must be 1", "type": "value_error"}]},
        (None, None, "body.n: must be 1"),
    ),
}


@pytest.mark.parametrize("name", SHAPES)
def test_shapes(name: str) -> None:
    status, body, expected = SHAPES[name]
    for dialect in (Dialect.CHAT, Dialect.MESSAGES):
        seen = vendor_error(status, {}, json.dumps(body).encode(), dialect)
        assert (seen.status, seen.code, seen.type, seen.message) == (status, *expected)


@pytest.mark.parametrize("wrapped", [True, False])
def test_google_says_its_wait_and_its_quota_in_the_details(wrapped: bool) -> None:
    body: object = {
        "error": {
            "code": 429,
            "message": "You exceeded your current quota",
            "status": "RESOURCE_EXHAUSTED",
            "details": [
                {
                    "@type": "type.googleapis.com/google.rpc.QuotaFailure",
                    "violations": [{"quotaId": "GenerateRequestsPerDayPerProjectPerModel-FreeTier"}],
                },
                {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34.5s"},
            ],
        }
    }
    seen = vendor_error(429, {}, json.dumps([body] if wrapped else body).encode(), Dialect.CHAT)
    assert seen.code == seen.type == "RESOURCE_EXHAUSTED"
    assert seen.quota == "GenerateRequestsPerDayPerProjectPerModel-FreeTier"
    assert seen.retry_after_ns == 34_500_000_000


def test_an_error_sent_as_an_event() -> None:
    seen = vendor_error(400, {}, b'id:1\nevent:error\ndata:{"code":"Arrearage","message":"m"}\n\n', Dialect.CHAT)
    assert (seen.code, seen.message) == ("Arrearage", "m")


def test_headers_say_whether_to_retry_and_which_request_it_was() -> None:
    seen = vendor_error(500, {"X-Should-Retry": "false", "Request-Id": "req_7"}, b"", Dialect.MESSAGES)
    assert seen == VendorError(500, should_retry=False, request_id="req_7")


def test_plain_text_is_a_message_and_html_is_none() -> None:
    assert vendor_error(404, {}, b"404 page not found\n", Dialect.CHAT).message == "404 page not found"
    assert vendor_error(502, {}, b"<html><h1>Bad gateway</h1>", Dialect.CHAT).message == ""


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff\xfe",
        b"[" * 5000,
        b"[]",
        b"null",
        b"3",
        b'""',
        b'{"error":[]}',
        b'{"error":{"message":["x"]}}',
        b'{"err',
        b"data: x",
    ],
)
def test_garbage_is_read_without_a_fault(body: bytes) -> None:
    seen = vendor_error(500, {}, body, Dialect.CHAT)
    assert seen.status == 500
    assert len(seen.message) < 10


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "error",
                    "message",
                    "code",
                    "type",
                    "details",
                    "detail",
                    "Response",
                    "header",
                    "loc",
                    "errors",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(json_values)
def test_any_json_is_read_without_a_fault(document: object) -> None:
    seen = vendor_error(500, {}, json.dumps(document).encode(), Dialect.CHAT)
    assert isinstance(seen.message, str)


# The filter.


@pytest.mark.parametrize(
    ("message", "secret"),
    [
        ("Incorrect API key provided: sk-proj-aB3dE***wxyz. Find your key at https://x.com.", "sk-proj"),
        ("invalid x-api-key: sk-ant-api03-AAAA1111", "sk-ant"),
        ("bad header Authorization: Bearer abcDEF123456", "abcDEF"),
        ("Rate limit reached for gpt-4o in organization org-AbCdEf123456 on tokens", "org-AbCdEf"),
        ("project proj_AbC123456 has no access", "proj_AbC"),
        ("could not fetch https://user:hunter2@host/x", "hunter2"),
        ("blob https://acct.blob.net/x?sv=1&sig=AbC%2Bdef&x=2", "AbC%2B"),
        ("key 0123456789abcdef0123456789abcdef.AbCdEfGhIjKlMnOp is disabled", "AbCdEfGh"),
        ("key AIzaSyA1234567890abcdefghij not valid", "AIzaSy"),
        ("Consumer projects/123456789012 exceeded", "123456789012"),
        ("contact owner.name@example.com", "owner.name"),
        ("organization 3f2504e0-4f89-11d3-9a0c-0305e82c3301 limit", "3f2504e0"),
        ("token eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc-_def expired", "eyJ"),
        ("role arn:aws:iam::123456789012:role/x", "1234567890"),
    ],
)
def test_what_a_tenant_may_not_see_is_taken_out(message: str, secret: str) -> None:
    shown = filtered_message(message)
    assert secret not in shown
    assert "[removed]" in shown
    assert filtered_message(shown) == shown


@pytest.mark.parametrize(
    "message",
    [
        "This model's maximum context length is 128000 tokens; your messages resulted in 130001 tokens.",
        "Unsupported value: 'temperature' does not support 0.2 with this model. Only the default (1) is.",
        "max_tokens: 100000 > 64000, which is the maximum allowed for claude-haiku-4-5-20251001",
        "Limit 30000, Used 29871, Requested 1024. Try again in 1.79s. See https://example.com/account/rate-limits",
        "messages.3.content.0.tool_result: unexpected `tool_use_id` found in a user-defined key-values block",
        "参数错误：temperature 必须在 0 到 2 之间",
    ],
)
def test_what_helps_a_tenant_stays(message: str) -> None:
    assert filtered_message(message) == message


def test_control_characters_and_length() -> None:
    assert filtered_message("a\r\nb\x1b[31m\u202ec\x00") == "a b [31m c"
    assert filtered_message("x " * 1000) == ("x " * 200)[:399].rstrip() + "…"
    assert len(filtered_message("x" * 500)) <= 400


def test_half_a_key_is_not_shown_where_a_long_message_is_cut() -> None:
    assert filtered_message(" " * 1595 + "sk-ab123456") == ""


@given(st.text(max_size=3000))
def test_the_filter_is_bounded_and_lets_no_control_character_through(text: str) -> None:
    shown = filtered_message(text)
    assert len(shown) <= 400
    assert not any(unicodedata.category(char) in {"Cc", "Cs"} for char in shown)


def test_a_vendors_text_is_filtered_in_our_bodies() -> None:
    for error in (VendorFailed("key sk-abc123456 refused"), VendorRefused("key sk-abc123456 refused")):
        for dialect in Dialect:
            assert b"sk-abc" not in error_body(error, dialect, "r")
            assert b"sk-abc" not in error_event(error, dialect, "r")
