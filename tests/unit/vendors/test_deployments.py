"""A deployment: what is sent, to where, with which credential, and nothing of the caller's but what may go along."""

from __future__ import annotations

import pytest

from dujiang.config import parse_config
from dujiang.terms import Dialect, Operation
from dujiang.vendors.deployments import Deployment, VendorLink, dialect_sent

CONFIG = """
vendors:
  acme:
    protocol: {protocol}
    base_url: {base_url}
    profile: {profile}
    proxy: {proxy}
    forward_headers: [anthropic-beta, "x-acme-*"]
    timeouts: {{connect: 1s, first_byte: 2s, between_bytes: 3s, total: 4s}}
    credentials: [{{name: main, key: ${{ACME_KEY}}, owner: Example Ltd}}]
models: {{assistant: {{deployments: [{{vendor: acme, credential: main, model: "{model}"}}]}}}}
"""


def deployment(
    *, protocol="openai", base_url="http://acme.test:81/v1/", profile="generic", proxy="null", model="gpt", key="sk-1"
) -> Deployment:
    text = CONFIG.format(protocol=protocol, base_url=base_url, profile=profile, proxy=proxy, model=model)
    config = parse_config(text, {"ACME_KEY": key})
    vendor = config.vendors["acme"]
    part = config.models["assistant"].deployments[0]
    return Deployment(VendorLink("acme", vendor), vendor, vendor.credentials[0], part)


def lines(made: Deployment, operation=Operation.CHAT, body=b"{}", headers=None) -> list[bytes]:
    head, _, sent = b"".join(made.request(operation, body, headers or {})).partition(b"\r\n\r\n")
    assert sent == body
    return head.split(b"\r\n")


def test_an_openai_request_as_it_goes_out() -> None:
    first, *headers = lines(deployment(), body='{"ü": 1}'.encode())
    assert first == b"POST /v1/chat/completions HTTP/1.1"
    assert b"host: acme.test:81" in headers
    assert b"authorization: Bearer sk-1" in [line.replace(b"Authorization", b"authorization") for line in headers]
    assert b"content-type: application/json" in headers
    assert b"content-length: 9" in headers
    assert len({line.split(b":")[0].lower() for line in headers}) == len(headers), "no header twice"


def test_an_anthropic_request_as_it_goes_out() -> None:
    made = deployment(protocol="anthropic", profile="anthropic", base_url="https://acme.test")
    first, *headers = lines(made, Operation.MESSAGES)
    assert first == b"POST /v1/messages HTTP/1.1"
    lowered = {line.lower() for line in headers}
    assert b"x-api-key: sk-1" in lowered
    assert any(line.startswith(b"anthropic-version: ") for line in lowered)


def test_only_what_may_go_along_goes_along() -> None:
    sent = {
        b"anthropic-beta": b"tools-1",
        b"x-acme-region": b"eu",
        b"authorization": b"Bearer dj-tenants-own",
        b"x-api-key": b"dj-tenants-own",
        b"cookie": b"secret",
        b"host": b"evil.test",
        b"transfer-encoding": b"chunked",
        b"anthropic-betamax": b"no",
    }
    _, *headers = lines(deployment(), headers=sent)
    assert b"anthropic-beta: tools-1" in headers
    assert b"x-acme-region: eu" in headers
    whole = b"\n".join(headers).lower()
    for stays in (b"dj-tenants-own", b"cookie", b"evil.test", b"chunked", b"betamax"):
        assert stays not in whole


def test_through_a_proxy_the_request_line_is_absolute_and_the_credentials_are_the_proxys() -> None:
    made = deployment(proxy="http://user:pw@proxy.test:3128")
    first, *headers = lines(made)
    assert first == b"POST http://acme.test:81/v1/chat/completions HTTP/1.1"
    assert any(line.startswith(b"proxy-authorization: Basic ") for line in headers)
    secure = deployment(proxy="http://user:pw@proxy.test:3128", base_url="https://acme.test/v1")
    first, *headers = lines(secure)
    assert first == b"POST /v1/chat/completions HTTP/1.1"
    assert not any(b"proxy" in line.lower() for line in headers)


def test_what_a_vendor_does_not_do_is_sent_as_the_closest_it_does() -> None:
    chat_only = deployment()
    assert chat_only.sent_as(Operation.CHAT) is Operation.CHAT
    assert chat_only.sent_as(Operation.MESSAGES) is Operation.CHAT
    messages = deployment(protocol="anthropic", profile="anthropic", base_url="https://acme.test")
    assert messages.sent_as(Operation.CHAT) is Operation.MESSAGES
    assert messages.sent_as(Operation.RESPONSES) is Operation.MESSAGES
    assert messages.sent_as(Operation.EMBEDDINGS) is None
    assert dialect_sent(Operation.COUNT_TOKENS) is Dialect.MESSAGES


def test_timeouts_and_name() -> None:
    made = deployment()
    times = made.link.timeouts
    assert (times.connect_ns, times.first_byte_ns, times.between_bytes_ns, times.total_ns) == (
        1_000_000_000, 2_000_000_000, 3_000_000_000, 4_000_000_000,
    )  # fmt: skip
    assert made.name == "acme/main/gpt"


@pytest.mark.parametrize("key", ["sk\r\nx-evil: 1", "sk\nx"])
def test_a_key_with_a_line_break_is_refused_and_not_shown(key: str) -> None:
    with pytest.raises(ValueError, match="line break") as refusal:
        deployment(key=key)
    assert "sk" not in str(refusal.value)


def test_a_face_the_profile_does_not_have() -> None:
    with pytest.raises(ValueError, match=r"vendors\.acme\.protocol"):
        deployment(protocol="anthropic", profile="openai")
