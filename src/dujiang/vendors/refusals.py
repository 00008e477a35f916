"""What a vendor means when it refuses: its words, read out of any error body, and what they tell us."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import NamedTuple, Protocol


class Meaning(StrEnum):
    """What a refusal tells us to do; the status alone cannot say it."""

    RATE = "rate"
    """A window is full: wait until it turns."""
    CONCURRENCY = "concurrency"
    """Too many at once: wait for a slot; the rate was fine."""
    GROWTH = "growth"
    """The rate rose too fast: hold it, then raise it slowly."""
    MONEY = "money"
    """Credit, package or spend limit is gone: no call will pass until somebody pays."""
    DAY = "day"
    """The day's quota is gone: nothing passes before the day turns."""
    OVERLOAD = "overload"
    """The vendor itself has no room: our own pace was not the cause."""
    BUSY = "busy"
    """This model or session is not ready (loading, or still answering): ask again shortly."""
    KEY = "key"
    """The credential is wrong, revoked or not allowed to do this."""
    CONTEXT = "context"
    """The request is larger than the model, or this account, will ever take."""
    INVALID = "invalid"
    """The caller's mistake: the same request will be refused again."""
    FAILED = "failed"
    """The vendor broke down on this request."""


class RefusalRule(Protocol):
    """One line of a vendor's dictionary; None matches anything, `code` and `type` are globs in lower case."""

    @property
    def status(self) -> int | None: ...
    @property
    def code(self) -> str | None: ...
    @property
    def type(self) -> str | None: ...
    @property
    def message_contains(self) -> str | None: ...
    @property
    def means(self) -> Meaning: ...


class ErrorWords(NamedTuple):
    """The words of an error body, empty where it has none."""

    code: str
    type: str
    message: str


_BY_STATUS: Mapping[int, Meaning] = {
    401: Meaning.KEY,
    402: Meaning.MONEY,
    403: Meaning.KEY,
    408: Meaning.FAILED,
    413: Meaning.CONTEXT,
    425: Meaning.BUSY,
    429: Meaning.RATE,
    503: Meaning.OVERLOAD,
    529: Meaning.OVERLOAD,
}


def meaning(
    rules: Sequence[RefusalRule], status: int, code: str | None, error_type: str | None, message: str | None
) -> Meaning:
    """Return what the first matching rule says, else what the status says by itself.

    An error inside a successful answer (status below 400) that no rule knows counts as a breakdown.
    """
    words = ((code or "").lower(), (error_type or "").lower(), (message or "").lower())
    for rule in rules:
        if _matches(rule, status, *words):
            return rule.means
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    return Meaning.INVALID if 400 <= status < 500 else Meaning.FAILED


def _matches(rule: RefusalRule, status: int, code: str, error_type: str, message: str) -> bool:
    return (
        (rule.status is None or rule.status == status)
        and (rule.code is None or fnmatchcase(code, rule.code))
        and (rule.type is None or fnmatchcase(error_type, rule.type))
        and (rule.message_contains is None or rule.message_contains in message)
    )


def error_words(body: object) -> ErrorWords:
    """Return the words of a decoded error body, whatever its shape.

    Understood: {error: {code, type, message}} (OpenAI and most), {error: {type, message, details:
    {error_code}}} (Anthropic), [{error: …}] with `status` for `type` (Google), {error: {metadata:
    {error_type}}} (OpenRouter), {error: "text"} (Ollama), flat {code, message}, {error_code, error_msg}
    and {code, msg} (Baidu), {header: {code, message}} (Spark frames), {detail: …} (FastAPI servers).
    Google's quota ids are appended to the message: only they tell a day's quota from a minute's.
    """
    if isinstance(body, list):
        body = body[0] if body else None
    if not isinstance(body, dict):
        return ErrorWords("", "", body if isinstance(body, str) else "")
    inner = body.get("error") or body.get("header") or body
    if isinstance(inner, str):
        return ErrorWords(_word(body.get("code")), _word(body.get("type")), inner)
    if not isinstance(inner, dict):
        inner = body
    details, metadata = inner.get("details"), inner.get("metadata")
    code = _first(details, "error_code") or _first(inner, "code", "error_code")
    kind = _first(metadata, "error_type") or _first(inner, "type", "error_type", "status")
    message = " ".join([_first(inner, "message", "error_msg", "msg", "detail"), *_quota_ids(details)])
    return ErrorWords(code, kind, message.strip())


def _first(tree: object, *keys: str) -> str:
    if not isinstance(tree, dict):
        return ""
    return next((word for key in keys if (word := _word(tree.get(key)))), "")


def _word(value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << 63:
        return str(value)
    return ""


def _quota_ids(details: object) -> list[str]:
    if not isinstance(details, list):
        return []
    violations = [
        violation
        for detail in details
        if isinstance(detail, dict) and isinstance(detail.get("violations"), list)
        for violation in detail["violations"]
    ]
    return [
        violation["quotaId"]
        for violation in violations
        if isinstance(violation, dict) and isinstance(violation.get("quotaId"), str)
    ]
