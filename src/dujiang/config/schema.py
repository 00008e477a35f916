"""Every key of the configuration, with its type, default and meaning."""

from __future__ import annotations

from typing import Annotated, Literal
from zoneinfo import ZoneInfo, available_timezones

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

from dujiang.config.units import DAY, Duration, Size, Window
from dujiang.terms import Dimension, Priority

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/@-]{0,127}$")]


_COUNTED = (
    Dimension.REQUESTS,
    Dimension.INPUT_TOKENS,
    Dimension.OUTPUT_TOKENS,
    Dimension.TOKENS,
    Dimension.CONCURRENCY,
)


class Section(BaseModel):
    """A part of the configuration: unknown keys are mistakes, values are final."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Limit(Section):
    """How much of a dimension may be used in a window."""

    dimension: Dimension
    """What is counted: requests, input_tokens, output_tokens, tokens, concurrency."""
    window: Window | None = None
    """`60s`, `1h` … rolls; `day` turns at midnight of `time_zone`. Not for concurrency."""
    value: int = Field(gt=0)
    """The most that fits into the window."""
    time_zone: str = "UTC"
    """Where midnight is, for `window: day`."""
    models: tuple[Name, ...] = ()
    """Only calls for these models count (a vendor's names under a credential); empty means all."""
    shape: Literal["sliding", "aligned", "bucket", "slice"] | None = None
    """How the vendor's window moves; default: what the vendor's profile says, else `sliding`."""
    slice: Duration | None = None
    """With `shape: slice`, the length of the slices a vendor splits its window into."""

    @field_validator("time_zone")
    @classmethod
    def _known_zone(cls, zone: str) -> str:
        if zone not in available_timezones():
            raise ValueError(f"{zone!r} is no time zone; write for example UTC, Asia/Shanghai, US/Pacific")
        return zone

    @field_validator("dimension")
    @classmethod
    def _is_counted(cls, dimension: Dimension) -> Dimension:
        if dimension not in _COUNTED:
            raise ValueError(f"no call is counted in {dimension} yet; use one of {', '.join(_COUNTED)}")
        return dimension

    @model_validator(mode="after")
    def _window_fits_dimension(self) -> Limit:
        if self.dimension in (Dimension.CONCURRENCY, Dimension.SESSIONS):
            if self.window is not None:
                raise ValueError(f"{self.dimension} has no window; remove `window`")
        elif self.window is None:
            raise ValueError(f"{self.dimension} needs a window; add for example `window: 60s`")
        if self.slice is not None and (self.shape != "slice" or not isinstance(self.window, int)):
            raise ValueError("`slice` goes with `shape: slice` and a window such as 60s")
        if self.shape == "slice" and self.slice is None:
            raise ValueError("`shape: slice` needs `slice`, for example `slice: 1s`")
        return self

    @property
    def zone(self) -> ZoneInfo:
        """Return the time zone whose midnight turns a day window."""
        return ZoneInfo(self.time_zone)

    @property
    def is_day(self) -> bool:
        """Return whether the window is a calendar day."""
        return self.window == DAY


class ServerSection(Section):
    """The door: where it listens and what it accepts."""

    host: str = "127.0.0.1"
    """The address to listen on."""
    port: int = Field(default=8700, ge=0, le=65535)
    """The port to listen on; 0 lets the system choose."""
    workers: int = Field(default=1, ge=1, le=64)
    """Processes that serve; they share every limit exactly."""
    max_body: Size = Field(default=25 * 1024 * 1024, gt=0)
    """The largest request body."""
    max_header: Size = Field(default=64 * 1024, ge=1024)
    """The largest request head: request line and headers together."""
    max_connections: int = Field(default=10_000, ge=1)
    """Open client connections a worker accepts; further ones are answered 503 and closed."""
    header_timeout: Duration = 10_000_000_000
    """How long a client may take to send a request head."""
    body_timeout: Duration = 30_000_000_000
    """How long a client may pause while it sends a body."""
    write_timeout: Duration = 60_000_000_000
    """How long a client may read nothing of its answer before it is cut off."""
    keep_alive: Duration = 75_000_000_000
    """How long an idle client connection stays open."""
    drain_timeout: Duration = 30_000_000_000
    """After SIGTERM, how long calls in flight may still take."""
    pepper: SecretStr | None = None
    """The secret that key hashes are peppered with; default: made once, kept beside the database."""
    reload: bool = True
    """Whether a changed file is loaded without a SIGHUP."""


class StorageSection(Section):
    """Where keys and records are kept."""

    url: str = "sqlite:///dujiang.db"
    """`sqlite:///relative/path.db`, `sqlite:////absolute/path.db`, or `memory://` (lost at exit)."""
    flush_interval: Duration = 250_000_000
    """Records are written in groups this often; a killed process loses at most this much."""
    max_pending: int = Field(default=100_000, ge=100)
    """Records that may wait to be written; more are dropped and counted, no call is blocked."""

    @field_validator("url")
    @classmethod
    def _known_driver(cls, url: str) -> str:
        if not url.startswith(("sqlite:///", "memory://")):
            raise ValueError("storage is `sqlite:///file.db` or `memory://`")
        return url


class QueueSection(Section):
    """How long, and how many, calls may wait for a vendor's quota."""

    max_wait: Duration = 60_000_000_000
    """The deadline of a call that names none."""
    max_calls: int = Field(default=10_000, ge=1)
    """Calls that may wait in a worker."""
    max_calls_per_tenant: int = Field(default=1_000, ge=1)
    """Calls of one tenant that may wait in a worker."""
    max_bytes: Size = Field(default=256 * 1024 * 1024, ge=1024)
    """Bytes of request bodies that may wait in a worker."""


class EstimatesSection(Section):
    """How tokens are estimated before a call."""

    tokenizer: bool = False
    """Whether the first calls of a tenant for a model are counted with the model's tokenizer, where one works
    offline (`dujiang[tokenizers]`, about 80 MB in every worker), instead of estimated by their size."""


class TelemetrySection(Section):
    """What the gateway says of itself."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """The least important log line that is written."""
    log_calls: bool = True
    """Whether every call is written to standard output as one JSON line."""
    metrics: bool = True
    """Whether `/metrics` is served."""
    otlp_endpoint: str | None = None
    """Where traces go by OTLP over HTTP, for example http://127.0.0.1:4318/v1/traces; needs `dujiang[otel]`."""


class TimeoutsSection(Section):
    """How long each phase of a vendor's answer may take."""

    connect: Duration = 5_000_000_000
    """Connecting, TLS included."""
    first_byte: Duration = 60_000_000_000
    """From the request sent to the first byte of the answer."""
    between_bytes: Duration = 60_000_000_000
    """Between two pieces of an answer."""
    total: Duration = 600_000_000_000
    """The whole answer."""


class CredentialSection(Section):
    """One account of ours at a vendor; the vendor's limits hang on it."""

    name: Name
    """What deployments and `/v1/limits` call it."""
    key: SecretStr
    """The vendor's API key; write it as ${NAME}, not in the file."""
    owner: str = ""
    """Whose account it is. Accounts of one owner at one vendor share that vendor's limits."""
    limits: tuple[Limit, ...] = ()
    """What the vendor allows this account."""


class VendorSection(Section):
    """A company, or a server of yours, that answers calls."""

    protocol: Literal["openai", "anthropic"]
    """The wire protocol it speaks."""
    base_url: str | None = None
    """Where it is; default: what its profile says."""
    profile: str = "generic"
    """The vendor's habits, as data: a name of docs/reference/vendors.md or a path of your own file."""
    proxy: str | None = None
    """An HTTP proxy to reach it through, http://[user:password@]host:port."""
    ca_file: str | None = None
    """A PEM file of certificate authorities to trust instead of the system's."""
    timeouts: TimeoutsSection = TimeoutsSection()
    """How long each phase may take."""
    network_spread: Duration = 300_000_000
    """How much longer than the fastest a request may take to reach the vendor; guards window edges."""
    release_lag: Duration | None = None
    """How long after the last byte the vendor frees a concurrency slot; default: its profile's."""
    max_connections: int = Field(default=1_000, ge=1)
    """Open connections a worker keeps to it."""
    forward_headers: tuple[str, ...] = ("anthropic-beta", "openai-beta", "traceparent", "tracestate")
    """Headers of the caller that the vendor gets to see; a name, or a beginning with `*`: `x-acme-*`."""
    credentials: tuple[CredentialSection, ...] = Field(min_length=1)
    """Our accounts there."""

    @field_validator("base_url", "proxy")
    @classmethod
    def _is_http(cls, url: str | None) -> str | None:
        if url is not None and not url.startswith(("http://", "https://")):
            # Without the value: a proxy's may hold a password.
            raise ValueError("must begin with http:// or https://")
        return url.rstrip("/") if url else url


class DeploymentSection(Section):
    """A vendor's model under one of our accounts: what a call can be sent to."""

    vendor: Name
    """A name under `vendors`."""
    credential: Name
    """The name of one of its credentials."""
    model: str
    """The vendor's name of the model."""
    weight: int = Field(default=1, ge=0)
    """With `strategy: weighted`, its share; 0 takes it out of use."""


class ModelSection(Section):
    """A name that tenants ask for."""

    deployments: tuple[DeploymentSection, ...] = Field(min_length=1)
    """Where it can be sent."""
    strategy: Literal["ordered", "weighted"] = "ordered"
    """`ordered`: the first with room; `weighted`: spread by weight over those with room."""
    aliases: tuple[Name, ...] = ()
    """Further names of the same model."""


class PlanSection(Section):
    """What a tenant is entitled to."""

    weight: int = Field(default=1, ge=1)
    """Its share when tenants compete."""
    limits: tuple[Limit, ...] = ()
    """Limits of each tenant on this plan."""
    models: tuple[Name, ...] = ()
    """Models it may use; empty means all."""
    priority: Literal["realtime", "interactive", "standard", "batch"] = "standard"
    """The class of a call that names none."""
    max_priority: Literal["realtime", "interactive", "standard", "batch"] = "realtime"
    """The highest class a call may ask for; more is lowered to it."""
    wait_at_limit: Duration = 0
    """How long a call may wait for the tenant's own limits before it is refused."""


class KeySection(Section):
    """A secret that calls are made with."""

    name: Name
    """What the records call it."""
    secret: SecretStr
    """At least 16 characters; write it as ${NAME}."""
    limits: tuple[Limit, ...] = ()
    """Limits of this key alone."""
    models: tuple[Name, ...] = ()
    """Models it may use; empty means those of the plan."""

    @field_validator("secret")
    @classmethod
    def _long_enough(cls, secret: SecretStr) -> SecretStr:
        if len(secret.get_secret_value()) < 16:
            raise ValueError("a secret needs at least 16 characters; `dujiang keys create` makes a good one")
        return secret


class ProjectSection(Section):
    """A part of a tenant, with keys and limits of its own."""

    id: Name
    """What the records call it; `default` is taken by the tenant's own keys."""
    keys: tuple[KeySection, ...] = ()
    """Keys of this project."""
    limits: tuple[Limit, ...] = ()
    """Limits of this project, beside those of the plan."""


class TenantSection(Section):
    """A customer of this gateway."""

    id: Name
    """What the records and reports call it."""
    plan: Name
    """A name under `plans`."""
    tier: Literal["unverified", "individual", "company", "enterprise"] = "individual"
    """How far the tenant was verified."""
    enabled: bool = True
    """Whether its calls are served."""
    keys: tuple[KeySection, ...] = ()
    """Keys of its default project."""
    projects: tuple[ProjectSection, ...] = ()
    """Further projects."""


class Config(Section):
    """The whole configuration."""

    server: ServerSection = ServerSection()
    """The door: where it listens and what it accepts."""
    storage: StorageSection = StorageSection()
    """Where keys and records are kept."""
    queue: QueueSection = QueueSection()
    """How long, and how many, calls may wait."""
    estimates: EstimatesSection = EstimatesSection()
    """How tokens are estimated before a call."""
    telemetry: TelemetrySection = TelemetrySection()
    """What the gateway says of itself."""
    vendors: dict[Name, VendorSection] = Field(default_factory=dict)
    """Who answers calls, by a name of your choice."""
    models: dict[Name, ModelSection] = Field(default_factory=dict)
    """What tenants ask for, by name."""
    plans: dict[Name, PlanSection] = Field(default_factory=dict)
    """What tenants are entitled to, by name."""
    tenants: tuple[TenantSection, ...] = ()
    """Who calls."""


def priority_of(name: str) -> Priority:
    """Return the priority a configuration word names."""
    return Priority[name.upper()]
