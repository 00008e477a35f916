"""What a vendor says when it refuses: read from every shape it comes in, and made fit to be shown."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import msgspec

from dujiang.protocols import sse
from dujiang.terms import Dialect

_MESSAGE_LIMIT_CHARS = 2000
_REQUEST_ID_HEADERS = ("x-request-id", "request-id", "x-dashscope-request-id", "x-log-id", "apim-request-id")


class VendorError(msgspec.Struct, frozen=True):
    """A vendor's refusal as it was read; `message` is raw: `filtered_message` makes it fit for a tenant.

    `code` is the vendor's most telling word (`rate_limit_exceeded`, `Throttling.RateQuota`, `1302`,
    `RESOURCE_EXHAUSTED`); `quota` names the exhausted quota where the body does (Google's `quotaId`);
    `retry_after_ns` is the wait that the body (not a header) asks for.
    """

    status: int
    code: str | None = None
    type: str | None = None
    message: str = ""
    param: str | None = None
    quota: str | None = None
    retry_after_ns: int | None = None
    should_retry: bool | None = None
    request_id: str | None = None


def vendor_error(status: int, headers: Mapping[str, str], body: bytes, dialect: Dialect) -> VendorError:
    """Return what a vendor's error answer says; never raises, whatever the body is.

    Understands OpenAI's and Anthropic's shapes in any dialect, and those of Google (also wrapped in a list),
    DashScope, Zhipu, Qianfan, Tencent, iFlytek, FastAPI servers and Ollama; an error sent as the first event
    of a stream; plain text.
    """
    known = {name.lower(): value for name, value in headers.items()}
    should_retry = {"true": True, "false": False}.get(known.get("x-should-retry", "").lower())
    request_id = next((known[name] for name in _REQUEST_ID_HEADERS if known.get(name)), None)
    document = _document(body)
    error = _error_object(document)
    if error is None:
        return VendorError(
            status, message=_plain_text(body), should_retry=should_retry, request_id=request_id, type=None
        )
    details = error.get("details")
    code = _text(error, "code", "error_code", "Code", "errorCode")
    kind = _text(error, "type", "status", "__type")
    if isinstance(details, dict):  # Anthropic: {"error_code": …}
        code = code or _text(details, "error_code")
    if code is None or code == str(status):  # the status said twice says less than the type
        code = kind or code
    if dialect is Dialect.MESSAGES and code is None:
        code = kind
    quota, retry_after_ns = _google_details(details)
    return VendorError(
        status,
        code=code,
        type=kind,
        message=_message(error)[:_MESSAGE_LIMIT_CHARS],
        param=_text(error, "param"),
        quota=quota,
        retry_after_ns=retry_after_ns,
        should_retry=should_retry,
        request_id=request_id or (_text(document, "request_id", "id") if isinstance(document, dict) else None),
    )


def _document(body: bytes) -> object:
    """Return the JSON in a body, which may be the first event of a stream, or `None`."""
    body = body.strip()
    if body.startswith((b"data:", b"event:", b"id:", b":")):
        try:
            decoder = sse.Decoder()
            events = decoder.feed(body) + decoder.finish()
        except ValueError:
            return None
        body = events[0].data if events else b""
    try:
        return msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def _error_object(document: object) -> dict[str, object] | None:
    """Return the object that holds code and message, wherever the vendor has put it."""
    if isinstance(document, list):  # Google wraps the answers of its streaming methods in a list
        document = document[0] if document else None
    if not isinstance(document, dict):
        return None
    for outer in ("error", "Error", "Response", "response", "header", "errors"):
        inner = document.get(outer)
        if isinstance(inner, list) and inner:
            inner = inner[0]
        if isinstance(inner, dict):
            return _error_object(inner) if outer in {"Response", "response"} else inner
        if isinstance(inner, str) and inner:
            return {**document, "message": document.get("message") or inner}
    return document


def _text(source: dict[str, object], *names: str) -> str | None:
    """Return the first of these members that has a value, as text."""
    for name in names:
        value = source.get(name)
        if isinstance(value, str) and value:
            return value
        if isinstance(value, int) and not isinstance(value, bool) and value:
            return str(value)
    return None


def _message(error: dict[str, object]) -> str:
    message = _text(error, "message", "error_msg", "Message", "msg", "errorMsg", "error_description", "detail")
    if message is not None:
        return message
    detail = error.get("detail")  # FastAPI: a list of {loc, msg}
    if isinstance(detail, list):
        return "; ".join(_fastapi_lines(detail))
    return ""


def _fastapi_lines(detail: list[object]) -> Iterator[str]:
    for item in detail:
        if isinstance(item, dict):
            location = item.get("loc")
            place = ".".join(str(step) for step in location) if isinstance(location, list) else ""
            yield f"{place}: {item.get('msg')}" if place else str(item.get("msg"))


def _google_details(details: object) -> tuple[str | None, int | None]:
    """Return the quota id of a google.rpc `QuotaFailure` and the `retryDelay` of a `RetryInfo` in ns."""
    quota: str | None = None
    retry_after_ns: int | None = None
    for detail in details if isinstance(details, list) else []:
        if not isinstance(detail, dict):
            continue
        delay = detail.get("retryDelay")
        if isinstance(delay, str) and (match := re.fullmatch(r"(\d{1,9})(?:\.(\d{1,9}))?s", delay)):
            fraction = (match[2] or "").ljust(9, "0")
            retry_after_ns = int(match[1]) * 1_000_000_000 + int(fraction)
        violations = detail.get("violations")
        if isinstance(violations, list) and violations and isinstance(violations[0], dict):
            quota = _text(violations[0], "quotaId", "quotaMetric") or quota
    return quota, retry_after_ns


def _plain_text(body: bytes) -> str:
    """Return the text of a body that is no JSON; an HTML page says nothing that a caller could use."""
    text = body[: 4 * _MESSAGE_LIMIT_CHARS].decode("utf-8", "replace").strip()
    if text.startswith(("<", "{", "[")) or "\ufffd" in text or "\x00" in text:
        return ""
    return text[:_MESSAGE_LIMIT_CHARS]


_REMOVED = "[removed]"
_SECRETS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"(?<=://)[^\s/@]+@"), f"{_REMOVED}@"),
    (
        re.compile(r"(?i)([?&](?:[a-z_-]*key|[a-z_-]*token|sig|signature|secret|password|code)=)[^\s&\"']+"),
        rf"\1{_REMOVED}",
    ),
    (re.compile(r"(?i)\b(bearer|basic)\s+[a-z0-9._~+/=*-]{6,}"), rf"\1 {_REMOVED}"),
    (
        re.compile(
            r"(?i)\b((?:x-)?api[-_ ]?key(?: provided)?|authorization|access[-_ ]?token|secret|password)"
            r"(\s*[:=]\s*)[\"']?[^\s\"',;]{4,}"
        ),
        rf"\1\2{_REMOVED}",
    ),
    (re.compile(r"\beyJ[\w-]{8,}(?:\.[\w-]+){0,2}"), _REMOVED),  # JWT
    (
        re.compile(r"(?i)\b(?:sk|pk|rk|ak|gsk|xai|nvapi|hf|key|pat|sess|bce-v3)[-_/](?=\D{0,40}[\d*])[\w*./-]{6,}"),
        _REMOVED,
    ),
    (re.compile(r"\b(?:AIza|AKIA|ASIA|LTAI|AKID)[\w-]{10,}"), _REMOVED),
    (re.compile(r"(?i)\b(?:org|proj|acct)[-_][a-z0-9]{6,}"), _REMOVED),
    (re.compile(r"\b(projects|accounts|subscriptions)/[\w-]{4,}"), rf"\1/{_REMOVED}"),
    (re.compile(r"\barn:aws[\w:/.-]+"), _REMOVED),
    (re.compile(r"[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63})+"), _REMOVED),
    (re.compile(r"(?i)\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b"), _REMOVED),
    (
        re.compile(r"\b(?=\w*\d)(?=\w*[A-Za-z])\w{24,}(?:\.\w{8,})?"),
        _REMOVED,
    ),  # anything that looks drawn by lot
)
# Control characters, line separators, zero-width and direction marks: they forge logs and screens.
_CONTROLS = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff\ufff9-\ufffb]+"
)


def filtered_message(message: str, limit: int = 400) -> str:
    """Return a vendor's text as a tenant may see it, at most `limit` characters.

    Keys, bearer tokens, credentials in URLs, ids of organisations, projects and accounts, e-mail addresses
    and control characters are taken out. What is filtered once is not changed by filtering it again.
    """
    window = 4 * limit
    if len(message) > window:  # cut at a space: half a key would not be recognised
        message = message[:window].rpartition(" ")[0]
    message = re.sub(r"\s+", " ", _CONTROLS.sub(" ", message)).strip()
    for secret, instead in _SECRETS:
        message = secret.sub(instead, message)
    return message if len(message) <= limit else message[: limit - 1].rstrip() + "…"
