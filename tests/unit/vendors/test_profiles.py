"""Vendor profiles: mistakes are named, every file of ours holds, and what vendors say is understood."""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dujiang.clock import SECOND
from dujiang.terms import Dimension, Operation
from dujiang.vendors import profiles
from dujiang.vendors.announced import AnnouncedLimit, go_duration_ns
from dujiang.vendors.profiles import (
    Meaning,
    ProfileInvalid,
    error_words,
    load_profile,
    parse_profile,
    profile_names,
)
from dujiang.vendors.profiles_page import profiles_page

ROOT = Path(__file__).parents[3]
WALL_NS = 1_795_219_200 * SECOND  # 2026-11-21T00:00:00Z

MINIMAL = """
name: acme
title: Acme
protocol: openai
sources: [{url: "https://docs.acme.example", read: 2026-11-21, what: all}]
faces: {openai: {base_url: "https://api.acme.example/v1", paths: {chat: /chat/completions}}}
"""


def invalid(text: str) -> str:
    with pytest.raises(ProfileInvalid) as caught:
        parse_profile(text, "acme.yaml")
    return str(caught.value)


# ------------------------------------------------------------------ the format


def test_a_minimal_profile_takes_the_cautious_defaults() -> None:
    profile = parse_profile(MINIMAL, "acme.yaml")
    assert profile.refused_count
    assert not profile.disconnect_frees
    assert not profile.keeps_state
    assert profile.release_lag_ns == 0
    assert profile.sources[0].read == date(2026, 11, 21)
    face = profile.face()
    assert face is not None
    assert face.auth.header == "authorization"
    assert face.auth.value("k1") == "Bearer k1"
    assert profile.face("anthropic") is None


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ("limit: []", "acme.yaml: limit: unknown key; did you mean `limits`?"),
        ("zzz: 1", "acme.yaml: zzz: unknown key; known here: name, title,"),
        (
            "limits: [{dimension: requests, windows: 60s, shape: sliding}]",
            "limits[0].windows: unknown key; did you mean `window`?",
        ),
        ("limits: [{dimension: requests, window: 60, shape: sliding}]", "limits[0].window: Expected `str`, got `int`"),
        ("limits: [{dimension: requests, window: soon, shape: sliding}]", "limits[0]: 'soon' is not a duration"),
        ("limits: [{dimension: requests, shape: sliding}]", "limits[0]: requests needs a window"),
        ("limits: [{dimension: requests, window: 60s}]", "limits[0]: requests needs a shape"),
        ("limits: [{dimension: requests, window: 60s, shape: slice}]", "shape slice needs `slice`"),
        (
            "limits: [{dimension: requests, window: 60s, shape: slice, slice: 60s}]",
            "slice 60s must be shorter than window 60s",
        ),
        ("limits: [{dimension: concurrency, window: 60s}]", "concurrency has no window; remove it"),
        ("limits: [{dimension: concurrency, shape: sliding}]", "concurrency has no window; remove shape and slice"),
        (
            "limits: [{dimension: requests, window: day, shape: aligned, time_zone: Mars/Olympus}]",
            "'Mars/Olympus' is no time zone; write for example Asia/Shanghai",
        ),
        (
            "limits: [{dimension: apples, window: 60s, shape: sliding}]",
            "limits[0].dimension: Invalid enum",
        ),
        ("release_lag: 5", "release_lag: Expected `str`"),
        ("release_lag: 5 parsecs", "'5 parsecs' is not a duration"),
        ("limit_headers: [{dimension: requests, limit: X-Limit}]", "write the header 'X-Limit' in lower case"),
        ("limit_headers: [{dimension: requests, reset: x-reset}]", "needs `limit` or `remaining`"),
        ("retry_hints: [{header: retry-after, body: error.wait}]", "needs either `header` or `body`"),
        ("refusals: [{means: rate}]", "matches everything"),
        ("refusals: [{code: Throttled, means: rate}]", "in lower case"),
        ("refusals: [{code: throttled, means: annoyance}]", "refusals[0].means: Invalid enum value 'annoyance'"),
        ("refusals: [{code: 1302, means: rate}]", "refusals[0].code: Expected `str | null`, got `int`"),
        ("models: [{name: a}, {name: a}]", "a name is listed twice"),
        ("published: [{tier: T, dimension: requests, window: 60s, value: 0}]", "value must be positive"),
        ("unverified: [refusals]", "unverified[0]: Invalid enum value 'refusals'"),
        ("name: twice", "`name` is written twice; remove one"),
        ("faces: {a: }}", "not valid YAML"),
    ],
)
def test_mistakes_are_named_by_path_with_a_remedy(extra: str, message: str) -> None:
    assert message in invalid(MINIMAL + extra + "\n")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("protocol: openai", "protocol: anthropic", "protocol is anthropic, but faces has no anthropic"),
        ("name: acme\n", "", "missing required field `name`"),
        (
            'sources: [{url: "https://docs.acme.example", read: 2026-11-21, what: all}]',
            "sources: []",
            "sources is empty",
        ),
        ("read: 2026-11-21", "read: yesterday", "sources[0].read: Invalid RFC3339"),
        ("https://api.acme.example/v1", "api.acme.example", "no http:// or https:// address"),
        ("https://api.acme.example/v1", "https://api.acme.example/v1/", "remove the slash at its end"),
        (
            "chat: /chat/completions",
            "chat: chat/completions",
            "faces.openai.paths: chat: 'chat/completions' must",
        ),
        ("chat: /chat", "chats: /chat", "faces.openai.paths.chats: unknown key; did you mean `chat`?"),
    ],
)
def test_mistakes_in_the_needed_keys(old: str, new: str, message: str) -> None:
    assert old in MINIMAL
    assert message in invalid(MINIMAL.replace(old, new))


@pytest.mark.parametrize("text", ["", "- a\n", "just text"])
def test_what_is_no_mapping_is_refused(text: str) -> None:
    assert "must be a mapping with keys such as name, protocol, faces" in invalid(text)


def test_an_operators_file_is_read_by_its_path(tmp_path: Path) -> None:
    path = tmp_path / "acme.yaml"
    path.write_text(MINIMAL, encoding="utf-8")
    assert load_profile(str(path)).title == "Acme"
    with pytest.raises(ProfileInvalid, match="No such file or directory; check the path"):
        load_profile(str(tmp_path / "other.yaml"))
    path.write_bytes(b"name: \xff\xfe")
    with pytest.raises(ProfileInvalid, match="not UTF-8 text; save it as UTF-8"):
        load_profile(str(path))


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(ProfileInvalid, match="did you mean 'deepseek'"):
        load_profile("deepseak")
    with pytest.raises(ProfileInvalid, match="there are: anthropic, "):
        load_profile("zzzzzz")
    with pytest.raises(ProfileInvalid, match=r"there is no profile '\.\./openai'"):
        load_profile("../openai")


def test_each_of_ours_is_parsed_once_and_only_when_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[str] = []
    original = profiles.parse_profile

    def counting(text: str, file: str) -> profiles.Profile:
        parsed.append(file)
        return original(text, file)

    monkeypatch.setattr(profiles, "parse_profile", counting)
    profiles._load_ours.cache_clear()
    profile_names()
    assert parsed == []
    assert load_profile("openai") is load_profile("openai")
    load_profile("groq")
    assert parsed == ["openai.yaml", "groq.yaml"]
    profiles._load_ours.cache_clear()


# ------------------------------------------------------------------ our files

WANTED = {
    "openai", "azure_openai", "anthropic", "gemini", "deepseek", "dashscope", "zhipu", "moonshot", "volcengine",
    "qianfan", "hunyuan", "spark", "siliconflow", "mistral", "groq", "openrouter", "vllm", "ollama", "simulated",
    "generic",
}  # fmt: skip


def test_every_promised_vendor_has_a_profile() -> None:
    assert set(profile_names()) >= WANTED


@pytest.mark.parametrize("name", profile_names())
def test_a_profile_of_ours_is_whole(name: str) -> None:
    profile = load_profile(name)
    assert profile.name == name
    face = profile.face()
    assert face is not None
    if profile.protocol == "openai":
        assert face.target(Operation.CHAT)
    else:
        assert face.target(Operation.MESSAGES)
    for page in profile.sources:
        assert re.fullmatch(r"https://\S+", page.url)
        assert date(2026, 1, 1) < page.read <= date(2026, 12, 31)
    for model in profile.models:
        if model.context_tokens and model.max_output_tokens and model.verified:
            assert model.max_output_tokens <= model.context_tokens
    if profile.limit_rule(Dimension.CONCURRENCY) and "release_lag" in profile.unverified and name != "ollama":
        assert profile.release_lag_ns > 0, "a lag nobody could read is guessed on the safe side"
    for field in profile.unverified:
        if field in ("refused_count", "disconnect_frees") and name not in ("vllm", "ollama"):
            cautious = {"refused_count": True, "disconnect_frees": False}[field]
            assert getattr(profile, field) is cautious


@pytest.mark.parametrize("name", profile_names())
def test_no_refusal_rule_of_ours_is_dead(name: str) -> None:
    """A rule that an earlier one always catches would be a mistake of order."""
    rules = load_profile(name).refusals
    for index, rule in enumerate(rules):
        for earlier in rules[:index]:
            covered = all(
                getattr(earlier, field) in (None, getattr(rule, field))
                for field in ("status", "code", "type", "message_contains")
            )
            assert not covered, f"{rule} never applies, {earlier} comes first"


@pytest.mark.parametrize(("language", "file"), [("en", "vendors.md"), ("zh", "vendors.zh.md")])
def test_the_reference_page_is_what_the_profiles_say(language: str, file: str) -> None:
    written = (ROOT / "docs/reference" / file).read_text(encoding="utf-8")
    assert written == profiles_page(language), f"write it anew: see docs/how-to/add-a-vendor.md, docs/reference/{file}"


@pytest.mark.parametrize("file", ["add-a-vendor.md", "add-a-vendor.zh.md"])
def test_the_example_in_the_guide_works_and_names_every_key(file: str) -> None:
    guide = (ROOT / "docs/how-to" / file).read_text(encoding="utf-8")
    block = re.search(r"```yaml\n(.*?)```", guide, re.DOTALL)
    assert block is not None
    profile = parse_profile(block[1], "acme.yaml")
    assert profile.refusal(429, None, None, "Too many CONCURRENT calls") is Meaning.CONCURRENCY
    documented = set(re.findall(r"`(\w+)", guide))
    kinds = [profile, profile.faces.openai, profile.limits[0], profile.limit_headers[0], profile.retry_hints[0]]
    kinds += [profile.refusals[0], profile.models[0], profile.sources[0]]
    for part in kinds:
        assert part is not None
        assert set(part.__struct_fields__) <= documented
    assert {meaning.value for meaning in Meaning} <= documented


# ------------------------------------------------------------------ addresses


def test_targets_hold_path_and_query() -> None:
    text = MINIMAL.replace(
        "paths: {chat: /chat/completions}",
        'query: {api-version: "2024-10-21"}, paths: {chat: "/deployments/{model}/chat/completions"}',
    )
    face = parse_profile(text, "acme.yaml").face()
    assert face is not None
    assert face.target(Operation.CHAT, "gpt-4o") == "/deployments/gpt-4o/chat/completions?api-version=2024-10-21"
    assert face.target(Operation.EMBEDDINGS) is None


def test_the_keys_travel_where_each_vendor_wants_them() -> None:
    def key_header(name: str, protocol: str) -> str:
        face = load_profile(name).face(protocol)
        assert face is not None
        return f"{face.auth.header}: {face.auth.value('k')}"

    assert key_header("openai", "openai") == "authorization: Bearer k"
    assert key_header("azure_openai", "openai") == "api-key: k"
    assert key_header("anthropic", "anthropic") == "x-api-key: k"
    assert key_header("deepseek", "anthropic") == "x-api-key: k"


# ------------------------------------------------------------------ limits


def test_rules_are_found_by_dimension_and_window() -> None:
    openai, gemini = load_profile("openai"), load_profile("gemini")
    minute = openai.limit_rule(Dimension.TOKENS, "60s")
    assert minute is not None
    assert (minute.charge, minute.slice_ns, minute.window_ns) == ("arrival_max", SECOND, 60 * SECOND)
    assert openai.limit_rule(Dimension.TOKENS, 60 * SECOND) is minute
    assert openai.limit_rule(Dimension.TOKENS, "10s") is None
    assert openai.limit_rule(Dimension.TOKENS) is None
    assert openai.limit_rule(Dimension.CONCURRENCY) is None
    day = gemini.limit_rule(Dimension.REQUESTS, "day")
    assert day is not None
    assert (day.shape, day.time_zone, day.window_ns) == ("aligned", "America/Los_Angeles", None)
    rolling = openai.limit_rule(Dimension.REQUESTS, "day")
    assert rolling is not None
    assert rolling.window == "24h", "a rule for 24h answers for the day where there is no better one"
    assert gemini.limit_rule(Dimension.REQUESTS, "24h") is day
    slots = load_profile("deepseek").limit_rule(Dimension.CONCURRENCY)
    assert slots is not None
    assert slots.shape is None


def test_models_are_found_by_their_dated_names_too() -> None:
    openai = load_profile("openai")
    mini = openai.model("gpt-4o-mini")
    assert mini is not None
    assert mini.tokenizer == "o200k"
    assert openai.model("gpt-4o-mini-2024-07-18") is mini
    assert openai.model("gpt-4o-audio-preview") is None
    assert load_profile("anthropic").model("claude-haiku-4-5-20251001") is not None


# ------------------------------------------------------------------ what answers announce


def announced(name: str, headers: dict[str, str], wall_ns: int = WALL_NS) -> list[AnnouncedLimit]:
    return load_profile(name).read_limit_headers(headers, wall_ns)


def test_openai_headers() -> None:
    assert announced(
        "openai",
        {
            "x-ratelimit-limit-requests": "60",
            "x-ratelimit-remaining-requests": "59",
            "x-ratelimit-reset-requests": "1s",
            "x-ratelimit-limit-tokens": "150000",
            "x-ratelimit-remaining-tokens": "149984",
            "x-ratelimit-reset-tokens": "6m0s",
        },
    ) == [
        AnnouncedLimit(Dimension.REQUESTS, "", 60, 59, SECOND),
        AnnouncedLimit(Dimension.TOKENS, "60s", 150_000, 149_984, 360 * SECOND),
    ]


def test_anthropic_headers_are_compared_with_the_vendors_own_clock() -> None:
    headers = {
        "anthropic-ratelimit-input-tokens-limit": "500000",
        "anthropic-ratelimit-input-tokens-remaining": "499000",
        "anthropic-ratelimit-input-tokens-reset": "2026-11-21T00:00:12Z",
    }
    assert announced("anthropic", headers) == [
        AnnouncedLimit(Dimension.INPUT_TOKENS, "60s", 500_000, 499_000, 12 * SECOND)
    ]
    skewed = {**headers, "date": "Sat, 21 Nov 2026 00:00:10 GMT"}
    assert announced("anthropic", skewed, WALL_NS + 3600 * SECOND)[0].reset_ns == 2 * SECOND
    assert announced("anthropic", headers, WALL_NS + 3600 * SECOND)[0].reset_ns == 0


def test_azure_says_minus_one_when_it_has_nothing_to_say() -> None:
    headers = {
        "x-ratelimit-limit-tokens": "-1",
        "x-ratelimit-remaining-tokens": "-1",
        "x-ratelimit-reset-tokens": "0",
        "x-ratelimit-limit-requests": "300",
        "x-ratelimit-remaining-requests": "299",
        "x-ratelimit-reset-requests": "10",
    }
    assert announced("azure_openai", headers) == [AnnouncedLimit(Dimension.REQUESTS, "60s", 300, 299, 10 * SECOND)]


def test_epochs_and_headers_without_reset() -> None:
    reset_ms = str((WALL_NS + 5 * SECOND) // 1_000_000)
    headers = {"x-ratelimit-limit": "20", "x-ratelimit-remaining": "0", "x-ratelimit-reset": reset_ms}
    assert announced("openrouter", headers) == [AnnouncedLimit(Dimension.REQUESTS, "", 20, 0, 5 * SECOND)]
    assert announced("moonshot", headers) == [AnnouncedLimit(Dimension.REQUESTS, "60s", 20, 0, None)]
    text = MINIMAL + "limit_headers: [{dimension: requests, limit: l, reset: r, reset_format: epoch_s}]\n"
    found = parse_profile(text, "acme.yaml").read_limit_headers({"l": "7", "r": "1795219200.5"}, WALL_NS)
    assert found == [AnnouncedLimit(Dimension.REQUESTS, "", 7, None, SECOND // 2)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("120ms", 120_000_000),
        ("1s", SECOND),
        ("6m0s", 360 * SECOND),
        ("1h2m3.5s", 3_723_500_000_000),
        ("2m59.56s", 179_560_000_000),
        ("17µs", 17_000),
        ("30", 30 * SECOND),
        ("0.25", SECOND // 4),
        ("0s", 0),
        ("", None),
        ("soon", None),
        ("-1s", None),
        ("1s later", None),
        ("1e9s", None),
        ("9999999h", None),
        ("٣s", None),
    ],
)
def test_go_durations(text: str, expected: int | None) -> None:
    assert go_duration_ns(text) == expected


@pytest.mark.parametrize(
    ("name", "headers", "body", "expected"),
    [
        ("openai", {"retry-after": "20"}, None, 20 * SECOND),
        ("openai", {"retry-after-ms": "1250", "retry-after": "2"}, None, 1_250_000_000),
        ("openai", {"retry-after-ms": "soon", "retry-after": "2"}, None, 2 * SECOND),
        ("openai", {"retry-after": "Sat, 21 Nov 2026 00:00:30 GMT"}, None, 30 * SECOND),
        (
            "openai",
            {"retry-after": "Sat, 21 Nov 2026 00:00:30 GMT", "date": "Sat, 21 Nov 2026 00:00:10 GMT"},
            None,
            20 * SECOND,
        ),
        ("openai", {"retry-after": "Fri, 20 Nov 2026 00:00:00 GMT"}, None, 0),
        ("openai", {}, {"error": {"message": "wait"}}, None),
        ("gemini", {}, [{"error": {"details": [{"@type": "x"}, {"retryDelay": "34.07s"}]}}], 34_070_000_000),
        ("gemini", {}, {"error": {"details": [{"retryDelay": "34s"}]}}, 34 * SECOND),
        ("gemini", {}, {"error": {"details": [{"retryDelay": None}, {"retryDelay": True}]}}, None),
        ("zhipu", {"retry-after": "3"}, None, None),
    ],
)
def test_how_long_a_refusal_asks_to_wait(
    name: str, headers: dict[str, str], body: object, expected: int | None
) -> None:
    assert load_profile(name).retry_after_ns(headers, body, WALL_NS) == expected


def test_a_date_without_any_clock_says_nothing() -> None:
    assert load_profile("openai").retry_after_ns({"retry-after": "Sat, 21 Nov 2026 00:00:30 GMT"}) is None


# ------------------------------------------------------------------ what refusals mean


@pytest.mark.parametrize(
    ("name", "status", "body", "expected"),
    [
        ("openai", 429, {"error": {"code": "rate_limit_exceeded", "type": "tokens", "message": "…"}}, "rate"),
        ("openai", 429, {"error": {"code": "insufficient_quota", "type": "insufficient_quota"}}, "money"),
        ("openai", 429, {"error": {"code": "project_spend_limit_exceeded"}}, "money"),
        ("openai", 429, {"error": {"code": "slow_down", "type": "rate_limit_error"}}, "growth"),
        ("openai", 503, {"error": {"code": "server_is_overloaded"}}, "overload"),
        ("openai", 400, {"error": {"code": "context_length_exceeded"}}, "context"),
        ("openai", 429, {"error": {"code": "rate_limit_exceeded", "message": "Limit: 200 per day"}}, "day"),
        ("openai", 401, {"error": {"code": "invalid_api_key"}}, "key"),
        ("openai", 400, {"error": {"code": None, "type": "invalid_request_error", "param": "messages"}}, "invalid"),
        ("openai", 500, "<html>", "failed"),
        ("openai", 200, {"error": {"message": "stream broke"}}, "failed"),
        ("anthropic", 429, {"type": "error", "error": {"type": "rate_limit_error", "message": "…"}}, "rate"),
        (
            "anthropic",
            429,
            {"error": {"type": "rate_limit_error", "details": {"error_code": "enforced_spend_limit_reached"}}},
            "money",
        ),
        (
            "anthropic",
            429,
            {"error": {"type": "rate_limit_error", "details": {"error_code": "ramp_limit_exceeded"}}},
            "growth",
        ),
        ("anthropic", 529, {"type": "error", "error": {"type": "overloaded_error"}}, "overload"),
        ("anthropic", 200, {"type": "error", "error": {"type": "overloaded_error"}}, "overload"),
        ("anthropic", 413, {"type": "error", "error": {"type": "request_too_large"}}, "context"),
        (
            "azure_openai",
            429,
            {"error": {"code": "429", "message": "System is experiencing high demand"}},
            "overload",
        ),
        ("azure_openai", 429, {"error": {"code": "429", "message": "Rate limit is exceeded"}}, "rate"),
        (
            "gemini",
            429,
            [{"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "message": "You exceeded your current quota"}}],
            "rate",
        ),
        (
            "gemini",
            429,
            [
                {
                    "error": {
                        "code": 429,
                        "status": "RESOURCE_EXHAUSTED",
                        "message": "You exceeded your current quota",
                        "details": [{"violations": [{"quotaId": "GenerateRequestsPerDayPerProjectPerModel"}]}],
                    }
                }
            ],
            "day",
        ),
        ("deepseek", 429, {"error": {"message": "too many", "type": "x"}}, "concurrency"),
        ("deepseek", 402, {"error": {"message": "Insufficient Balance"}}, "money"),
        ("dashscope", 429, {"error": {"code": "insufficient_quota", "message": "Allocated quota exceeded"}}, "rate"),
        ("dashscope", 429, {"code": "Throttling.BurstRate", "message": "…", "request_id": "1"}, "growth"),
        ("dashscope", 429, {"code": "Throttling.Concurrency"}, "concurrency"),
        ("dashscope", 429, {"code": "Throttling.RateQuota"}, "rate"),
        ("dashscope", 400, {"error": {"code": "Arrearage"}}, "money"),
        ("dashscope", 403, {"error": {"code": "AllocationQuota.FreeTierOnly"}}, "money"),
        ("zhipu", 429, {"error": {"code": "1302", "message": "…"}}, "concurrency"),
        ("zhipu", 429, {"error": {"code": "1305", "message": "…"}}, "overload"),
        ("zhipu", 429, {"error": {"code": "1304", "message": "…"}}, "day"),
        ("zhipu", 429, {"error": {"code": "1113", "message": "…"}}, "money"),
        ("zhipu", 401, {"error": {"code": "1003", "message": "…"}}, "key"),
        ("moonshot", 429, {"error": {"type": "exceeded_current_quota_error"}}, "money"),
        ("moonshot", 429, {"error": {"type": "engine_overloaded_error"}}, "overload"),
        (
            "moonshot",
            429,
            {
                "error": {
                    "type": "rate_limit_reached_error",
                    "message": "reached max organization concurrency: 1",
                }
            },
            "concurrency",
        ),
        (
            "moonshot",
            429,
            {"error": {"type": "rate_limit_reached_error", "message": "reached organization max RPM: 3"}},
            "rate",
        ),
        ("volcengine", 429, {"error": {"code": "RateLimitExceeded.EndpointTPMExceeded"}}, "rate"),
        ("volcengine", 429, {"error": {"code": "RateLimitExceeded.FoundationModelTPDExceeded"}}, "day"),
        ("volcengine", 429, {"error": {"code": "ModelAccountRpmRateLimitExceeded"}}, "rate"),
        ("volcengine", 429, {"error": {"code": "ServerOverloaded"}}, "overload"),
        ("volcengine", 429, {"error": {"code": "RequestBurstTooFast"}}, "growth"),
        ("volcengine", 403, {"error": {"code": "AccountOverdueError"}}, "money"),
        ("qianfan", 200, {"code": "rpm_rate_limit_exceeded", "msg": "Rate limit reached for RPM"}, "rate"),
        ("qianfan", 200, {"error_code": 336501, "error_msg": "Rate limit reached for RPM"}, "rate"),
        ("qianfan", 429, {"error": {"code": "cluster_tpm_rate_limit_exceeded"}}, "overload"),
        ("qianfan", 403, {"error": {"code": "account_overdue", "type": "access_denied"}}, "money"),
        ("spark", 200, {"code": 11203, "message": "…", "sid": "1"}, "concurrency"),
        ("spark", 200, {"header": {"code": 11201, "message": "…"}}, "day"),
        ("spark", 200, {"code": 10007, "message": "…"}, "busy"),
        ("siliconflow", 403, {"code": 30001, "message": "Sorry, your account balance is insufficient"}, "money"),
        ("groq", 413, {"error": {"code": "rate_limit_exceeded", "message": "Limit 8000, Requested 10098"}}, "context"),
        (
            "openrouter",
            402,
            {"error": {"code": 402, "metadata": {"error_type": "in_flight_budget_exhausted"}}},
            "concurrency",
        ),
        ("openrouter", 200, {"error": {"code": 402, "message": "…"}}, "money"),
        ("openrouter", 200, {"error": {"code": 502, "message": "…"}}, "failed"),
        ("ollama", 503, {"error": "server busy, please try again.  maximum pending requests exceeded"}, "concurrency"),
        ("vllm", 400, {"error": {"message": "This model's maximum context length is 4096 tokens."}}, "context"),
        ("generic", 429, {"error": {"message": "Concurrency limit reached for requests"}}, "concurrency"),
        ("generic", 429, {"detail": "Too Many Requests"}, "rate"),
        ("simulated", 401, {"type": "error", "error": {"type": "authentication_error"}}, "key"),
        ("simulated", 429, {"error": {"type": "requests", "message": "Too many concurrent requests"}}, "concurrency"),
        ("simulated", 429, {"error": {"type": "rate_limit_error", "message": "Too many concurrent"}}, "concurrency"),
        ("simulated", 429, {"error": {"code": "rate_limit_exceeded", "message": "tokens per min (TPM)"}}, "rate"),
    ],
)
def test_what_a_vendors_refusal_means(name: str, status: int, body: object, expected: str) -> None:
    words = error_words(body)
    assert load_profile(name).refusal(status, *words) == expected


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (400, "invalid"), (401, "key"), (402, "money"), (403, "key"), (404, "invalid"), (408, "failed"),
        (413, "context"), (422, "invalid"), (425, "busy"), (429, "rate"), (500, "failed"), (502, "failed"),
        (503, "overload"), (504, "failed"), (529, "overload"), (200, "failed"), (302, "failed"),
    ],
)  # fmt: skip
def test_without_words_the_status_speaks(status: int, expected: str) -> None:
    assert parse_profile(MINIMAL, "acme.yaml").refusal(status, None, None, None) == expected


# ------------------------------------------------------------------ garbage

texts = st.one_of(
    st.text(max_size=80),
    st.from_regex(r"-?[0-9]{0,30}(\.[0-9]{0,20})?(ms|s|m|h|d|e9)?", fullmatch=True),
    st.sampled_from(["nan", "inf", "-1", "1e400", "0x10", "9" * 5000, "1s" * 3000, "0001-01-01T00:00:00+23:59"]),
    st.datetimes().map(lambda moment: moment.isoformat() + "Z"),
    st.datetimes().map(lambda moment: moment.strftime("%a, %d %b %Y %H:%M:%S GMT")),
    st.from_regex(
        r"[A-Z][a-z]{2}, [0-9]{1,9} [A-Z][a-z]{2} [0-9]{0,9} [0-9:]{0,12} [+-]?[0-9A-Z]{0,9}", fullmatch=True
    ),
)
WORDS = (
    *("error", "code", "type", "message", "msg", "detail", "details", "status", "metadata"),
    *("error_type", "error_code", "header", "violations", "quotaId", "retryDelay"),
)
words = st.sampled_from(WORDS)
bodies = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(words, inner, max_size=6),
    max_leaves=20,
)


@settings(max_examples=120, deadline=None, derandomize=True)
@given(data=st.data(), wall_ns=st.integers(min_value=-(1 << 70), max_value=1 << 70))
def test_no_header_can_make_the_reader_fail(data: st.DataObject, wall_ns: int) -> None:
    for name in ("openai", "anthropic", "azure_openai", "openrouter"):
        profile = load_profile(name)
        known = [part for header in profile.limit_headers for part in (header.limit, header.remaining, header.reset)]
        headers = data.draw(st.dictionaries(st.sampled_from([*known, "date", "retry-after", "retry-after-ms"]), texts))
        for found in profile.read_limit_headers(headers, wall_ns):
            assert found.limit is None or found.limit >= 0
            assert found.remaining is None or found.remaining >= 0
            assert found.reset_ns is None or 0 <= found.reset_ns <= 366 * 86_400 * SECOND
        wait_ns = profile.retry_after_ns(headers, None, wall_ns)
        assert wait_ns is None or 0 <= wait_ns <= 366 * 86_400 * SECOND


@settings(max_examples=200, deadline=None, derandomize=True)
@given(body=bodies, status=st.integers(min_value=0, max_value=999))
@example(body={"error": {"code": 10**5000, "details": {"error_code": -(10**5000)}}}, status=429)
@example(body={"error": {"details": {"retryDelay": 10**5000}}}, status=429)
def test_no_body_can_make_the_reader_fail(body: object, status: int) -> None:
    found = error_words(body)
    assert all(isinstance(word, str) for word in found)
    for name in ("openai", "gemini", "qianfan", "generic"):
        profile = load_profile(name)
        assert isinstance(profile.refusal(status, *found), Meaning)
        wait_ns = profile.retry_after_ns({}, body, WALL_NS)
        assert wait_ns is None or wait_ns >= 0


def test_a_deeply_nested_body_is_read_without_recursion() -> None:
    body = msgspec.json.decode(b"[" * 500 + b"]" * 500)
    assert load_profile("gemini").retry_after_ns({}, body, WALL_NS) is None
    assert error_words(body) == ("", "", "")
