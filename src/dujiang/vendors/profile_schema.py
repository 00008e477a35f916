"""The format of a vendor profile: every key, its type, its default and what it means."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date
from typing import Literal
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

import msgspec

from dujiang.config.units import DAY, parse_duration, parse_window
from dujiang.terms import Dimension, Operation
from dujiang.vendors.announced import AnnouncedLimit, HintUnit, ResetFormat, read_limits, read_retry_after
from dujiang.vendors.refusals import Meaning, meaning

Protocol = Literal["openai", "anthropic"]
Shape = Literal["sliding", "aligned", "bucket", "slice", "unknown"]
Scope = Literal["account", "project", "key"]
Charge = Literal["actual", "uncached", "arrival_settled", "arrival_max"]
StreamUsage = Literal["option", "always", "never"]
Tokenizer = Literal["o200k", "cl100k", "none"]
Unsettled = Literal["keeps_state", "refused_count", "disconnect_frees", "release_lag", "request_id_header"]

_SLOTS = (Dimension.CONCURRENCY, Dimension.SESSIONS)
_DAY_NS = parse_duration("24h")
_DATED = re.compile(r"[-@:](?:\d{4,8}(?:-\d\d){0,2}|latest)$")


class Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A part of a profile: unknown keys are mistakes, values are final."""


class Fact(Part, frozen=True, kw_only=True):
    """Something a vendor is said to do; `verified` is false where no page of the vendor settles it."""

    verified: bool = True


def _check_window(dimension: Dimension, window: str) -> int | str | None:
    """Return the window as nanoseconds or `day`, None for slots, which have none; raise ValueError."""
    if dimension in _SLOTS:
        if window:
            raise ValueError(f"{dimension} has no window; remove it")
        return None
    if not window:
        raise ValueError(f"{dimension} needs a window, for example 60s or day")
    return parse_window(window)


class VendorPage(Part, frozen=True, kw_only=True):
    """Where facts come from, and when it was read. `via` names the copy that was read instead of the page."""

    url: str
    read: date
    what: str
    via: str = ""


class Auth(Part, frozen=True, kw_only=True):
    """The header that carries the key, and the word before it."""

    header: str = "authorization"
    scheme: str = "Bearer"

    def value(self, key: str) -> str:
        """Return the header's value for a key."""
        return f"{self.scheme} {key}" if self.scheme else key


class Paths(Part, frozen=True, kw_only=True):
    """Where each operation is served, after the base URL; None is not served, `{model}` is the model."""

    chat: str | None = None
    responses: str | None = None
    embeddings: str | None = None
    messages: str | None = None
    count_tokens: str | None = None
    models: str | None = None

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            path = getattr(self, name)
            if path is not None and not path.startswith("/"):
                raise ValueError(f"{name}: {path!r} must start with a slash")


class Face(Fact, frozen=True, kw_only=True):
    """One wire protocol a vendor speaks: where, with which key header, and what it serves there.

    An empty `base_url` means every account has its own; the configuration must name it. `stream_usage` says
    when a chat stream tells what it used: after asking with `stream_options` (`option`); unasked (`always`),
    and then `stream_options` is not sent, for some vendors refuse it; or not at all (`never`).
    """

    base_url: str = ""
    auth: Auth = Auth()
    headers: dict[str, str] = {}
    query: dict[str, str] = {}
    paths: Paths
    stream_usage: StreamUsage = "option"
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"

    def __post_init__(self) -> None:
        if self.base_url and not self.base_url.startswith(("http://", "https://")):
            raise ValueError(f"base_url: {self.base_url!r} is no http:// or https:// address")
        if self.base_url.endswith("/"):
            raise ValueError("base_url: remove the slash at its end; the paths begin with one")

    def target(self, operation: Operation, model: str = "") -> str | None:
        """Return path and query of an operation, to be put after the base URL; None if it is not served."""
        path: str | None = getattr(self.paths, operation)
        if path is None:
            return None
        path = path.replace("{model}", model)
        return f"{path}?{urlencode(self.query)}" if self.query else path


class Faces(Part, frozen=True, kw_only=True):
    """The wire protocols a vendor speaks."""

    openai: Face | None = None
    anthropic: Face | None = None


class LimitRule(Fact, frozen=True, kw_only=True):
    """How a vendor meters one dimension; the value is the account's and stands in the configuration.

    `window` is a duration or `day` (turns at midnight of `time_zone`). `slice` is, with every shape, the
    shorter span that the vendor enforces too, in proportion: 60 per 60s and a slice of 1s is one a second.
    `charge` says what a call costs: `actual` use as it happens; `uncached`, actual use without what the
    prompt cache served; `arrival_settled`, input and the largest output at arrival, corrected at the end;
    `arrival_max`, the same and not given back.
    """

    dimension: Dimension
    window: str = ""
    shape: Shape | None = None
    slice: str = ""
    time_zone: str = "UTC"
    scope: Scope = "account"
    per_model: bool = False
    charge: Charge = "actual"

    def __post_init__(self) -> None:
        window = _check_window(self.dimension, self.window)
        if window is None:
            if self.shape or self.slice:
                raise ValueError(f"{self.dimension} has no window; remove shape and slice")
            return
        if self.shape is None:
            raise ValueError(f"{self.dimension} needs a shape, for example sliding, or unknown")
        if self.shape == "slice" and not self.slice:
            raise ValueError("shape slice needs `slice`, for example 1s")
        length_ns = window if isinstance(window, int) else _DAY_NS
        if self.slice and not 0 < parse_duration(self.slice) < length_ns:
            raise ValueError(f"slice {self.slice} must be shorter than window {self.window}")
        try:
            ZoneInfo(self.time_zone)
        except (OSError, ValueError, KeyError) as error:
            raise ValueError(f"{self.time_zone!r} is no time zone; write for example Asia/Shanghai") from error

    @property
    def window_ns(self) -> int | None:
        """Return the length of the window; None for a calendar day and for slots."""
        return parse_duration(self.window) if self.window and self.window != DAY else None

    @property
    def slice_ns(self) -> int | None:
        """Return the length of the slices the vendor enforces, if any."""
        return parse_duration(self.slice) if self.slice else None


class PublishedLimit(Fact, frozen=True, kw_only=True):
    """A limit the vendor publishes for new accounts; `model` empty means any."""

    tier: str
    model: str = ""
    dimension: Dimension
    window: str = ""
    value: int

    def __post_init__(self) -> None:
        _check_window(self.dimension, self.window)
        if self.value <= 0:
            raise ValueError(f"value must be positive, got {self.value}")


class LimitHeader(Fact, frozen=True, kw_only=True):
    """The headers that announce one limit, in lower case."""

    dimension: Dimension
    window: str = ""
    limit: str = ""
    remaining: str = ""
    reset: str = ""
    reset_format: ResetFormat = "seconds"

    def __post_init__(self) -> None:
        for header in (self.limit, self.remaining, self.reset):
            if header != header.lower():
                raise ValueError(f"write the header {header!r} in lower case")
        if self.window:
            _check_window(self.dimension, self.window)
        if not (self.limit or self.remaining):
            raise ValueError("needs `limit` or `remaining`: the name of a header")


class RetryHint(Fact, frozen=True, kw_only=True):
    """Where a refusal says how long to wait: a header, or a path into the body (lists are searched)."""

    header: str = ""
    body: str = ""
    unit: HintUnit = "s"

    def __post_init__(self) -> None:
        if bool(self.header) == bool(self.body):
            raise ValueError("needs either `header` or `body`")
        if self.header != self.header.lower():
            raise ValueError(f"write the header {self.header!r} in lower case")


class Refusal(Fact, frozen=True, kw_only=True):
    """One rule: what a refusal with this status, code, type and message means; code and type are globs."""

    status: int | None = None
    code: str | None = None
    type: str | None = None
    message_contains: str | None = None
    means: Meaning

    def __post_init__(self) -> None:
        words = (self.code, self.type, self.message_contains)
        if self.status is None and not any(words):
            raise ValueError("matches everything; name a status, code, type or message_contains")
        if any(word != word.lower() for word in words if word):
            raise ValueError("write code, type and message_contains in lower case; they match any case")


class Model(Fact, frozen=True, kw_only=True):
    """A model as the vendor names it; None is unknown, `none` is a model without a public tokenizer."""

    name: str
    context_tokens: int | None = None
    max_output_tokens: int | None = None
    tokenizer: Tokenizer = "none"


class Profile(Part, frozen=True, kw_only=True):
    """One vendor's habits.

    `keeps_state`: it stores responses and takes `previous_response_id`. `refused_count`: a refused request
    counts against the limit. `disconnect_frees`: hanging up ends the work, frees the slot and stops the bill.
    `release_lag`: how long after the last byte a slot is still counted. `unverified` names those of them that
    no page of the vendor settles; their values are then the cautious ones.
    """

    name: str
    title: str
    protocol: Protocol
    sources: tuple[VendorPage, ...]
    faces: Faces
    keeps_state: bool = False
    limits: tuple[LimitRule, ...] = ()
    refused_count: bool = True
    disconnect_frees: bool = False
    release_lag: str = "0s"
    unverified: tuple[Unsettled, ...] = ()
    published: tuple[PublishedLimit, ...] = ()
    limit_headers: tuple[LimitHeader, ...] = ()
    retry_hints: tuple[RetryHint, ...] = ()
    request_id_header: str = ""
    refusals: tuple[Refusal, ...] = ()
    models: tuple[Model, ...] = ()

    def __post_init__(self) -> None:
        if not self.sources:
            raise ValueError("sources is empty; say where the facts come from and when it was read")
        if getattr(self.faces, self.protocol) is None:
            raise ValueError(f"protocol is {self.protocol}, but faces has no {self.protocol}")
        parse_duration(self.release_lag)
        names = [model.name for model in self.models]
        if len(names) != len(set(names)):
            raise ValueError("models: a name is listed twice; remove one")

    def face(self, protocol: Protocol | None = None) -> Face | None:
        """Return what the vendor serves in a protocol, by default its own (never None); None if nothing."""
        return getattr(self.faces, protocol or self.protocol)

    @property
    def release_lag_ns(self) -> int:
        """Return how long after the last byte a slot is still counted."""
        return parse_duration(self.release_lag)

    def limit_rule(self, dimension: Dimension, window: str | int | None = None) -> LimitRule | None:
        """Return how the vendor meters a dimension over a window (text or nanoseconds); None if unsaid.

        A rule for `24h` also answers for `day`, and the other way round, where there is no exact one.
        """
        wanted = parse_window(window) if isinstance(window, str) else window
        rules = [rule for rule in self.limits if rule.dimension is dimension]
        if dimension in _SLOTS:
            return rules[0] if rules else None
        by_window = {parse_window(rule.window): rule for rule in rules}
        if wanted in (DAY, _DAY_NS):
            return by_window.get(wanted) or by_window.get(_DAY_NS if wanted == DAY else DAY)
        return by_window.get(wanted) if wanted is not None else None

    def refusal(self, status: int, code: str | None, type: str | None, message: str | None) -> Meaning:  # noqa: A002
        """Return what a refusal means: the first rule that matches, else what its status says."""
        return meaning(self.refusals, status, code, type, message)

    def read_limit_headers(self, headers: Mapping[str, str], wall_ns: int) -> list[AnnouncedLimit]:
        """Return what an answer's headers (names in lower case) announce; garbage is ignored."""
        return read_limits(self.limit_headers, headers, wall_ns)

    def retry_after_ns(self, headers: Mapping[str, str], body: object = None, wall_ns: int | None = None) -> int | None:
        """Return the wait a refusal asks for; None if it asks for none.

        `body` is the decoded JSON. A date is compared with the answer's own `date`, else with `wall_ns`.
        """
        return read_retry_after(self.retry_hints, headers, body, wall_ns)

    def model(self, name: str) -> Model | None:
        """Return what is known of a model; a dated or `latest` name falls back to the undated one."""
        known = {model.name: model for model in self.models}
        return known.get(name) or known.get(_DATED.sub("", name))
