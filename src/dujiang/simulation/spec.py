"""What a simulated vendor is told to be: dialects, keys, models, limits, speeds and faults."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, tzinfo
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import yaml
from pydantic import (
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationError,
    field_validator,
    model_validator,
)

from dujiang.simulation.draws import Distribution
from dujiang.simulation.durations import Duration, parse_duration, write_duration
from dujiang.simulation.faults import Fault
from dujiang.simulation.meters import Bucket, FixedWindow, Meter, SlidingLog, Slots, aligned, calendar_days
from dujiang.terms import Dimension

DAY = "day"
_DAY_NS = parse_duration("1d")
_COUNTED = (
    Dimension.REQUESTS,
    Dimension.TOKENS,
    Dimension.INPUT_TOKENS,
    Dimension.OUTPUT_TOKENS,
    Dimension.CONCURRENCY,
)


class SpecError(ValueError):
    """A description of a simulated vendor that cannot be; the message names each field and the remedy."""


class Semantics(StrEnum):
    """How a window limit counts."""

    FIXED = "fixed"
    SLIDING = "sliding"
    BUCKET = "bucket"
    SMOOTHING = "smoothing"


class Charge(StrEnum):
    """What a token limit counts, and when."""

    ARRIVAL = "arrival"
    """Input and `max_tokens` at arrival; nothing is given back (OpenAI, Azure OpenAI)."""
    SETTLED = "settled"
    """Input and `max_tokens` at arrival; the difference to the actual is settled at the end (Bedrock)."""
    GENERATED = "generated"
    """Input at arrival, output as it is generated (Anthropic)."""


class OnDisconnect(StrEnum):
    """What the vendor does with a generation whose client has gone."""

    CONTINUE = "continue"
    STOP = "stop"


class RetryAfter(StrEnum):
    """Which headers of a refusal say when to come back."""

    BOTH = "both"
    SECONDS = "seconds"
    MILLISECONDS = "milliseconds"
    NONE = "none"


def _parse_window(written: object) -> object:
    return written if written is None or written == DAY else parse_duration(written)


def _write_window(window: int | str | None) -> str | None:
    return write_duration(window) if isinstance(window, int) else window


class LimitSpec(BaseModel):
    """One limit of an account: so much of a dimension per window, or at once."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    dimension: Dimension
    window: Annotated[int | Literal["day"] | None, BeforeValidator(_parse_window), PlainSerializer(_write_window)] = (
        None
    )
    value: int = Field(ge=1)
    semantics: Semantics = Semantics.SLIDING
    phase: Duration = 0
    slice: Duration | None = None
    burst: int | None = Field(default=None, ge=1)
    charge: Charge = Charge.ARRIVAL
    zone: str = "UTC"

    @classmethod
    def parse(cls, written: str) -> Self:
        """Build a limit from `DIMENSION[/WINDOW]=VALUE[:SEMANTICS[,option=value…]]`.

        Raises ValueError (or pydantic's ValidationError, which is one) that says what is wrong.
        """
        subject, equals, rest = written.partition("=")
        if not equals:
            raise ValueError(f"{written!r} is not a limit; write it like requests/60s=60:sliding or concurrency=5")
        value, _, details = rest.partition(":")
        dimension, slash, window = subject.strip().partition("/")
        fields: dict[str, Any] = {"dimension": dimension, "value": value.strip()}
        if slash:
            fields["window"] = window.strip()
        for position, part in enumerate(filter(None, details.split(","))):
            name, equals, option = part.partition("=")
            if not equals and position == 0:
                fields["semantics"] = part.strip()
            elif equals:
                fields[name.strip()] = option.strip()
            else:
                raise ValueError(f"{part!r} in limit {written!r} is not option=value")
        return cls.model_validate(fields)

    @model_validator(mode="before")
    @classmethod
    def _a_day_is_fixed(cls, fields: Any) -> Any:
        if isinstance(fields, dict) and fields.get("window") == DAY and "semantics" not in fields:
            return {**fields, "semantics": Semantics.FIXED}
        return fields

    @field_validator("dimension")
    @classmethod
    def _counted(cls, dimension: Dimension) -> Dimension:
        if dimension not in _COUNTED:
            raise ValueError(f"a simulated vendor counts {', '.join(_COUNTED)}, not {dimension}")
        return dimension

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.dimension is Dimension.CONCURRENCY:
            if foreign := self.model_fields_set - {"dimension", "value"}:
                raise ValueError(f"a concurrency limit has only a value; remove {', '.join(sorted(foreign))}")
            return self
        if self.window is None:
            raise ValueError(f"a limit of {self.dimension} needs a window, like {self.dimension}/60s")
        if self.window != DAY and self.window < 1_000_000:
            raise ValueError("a window is 1ms at least")
        for option, of in (
            ("phase", "fixed"),
            ("slice", "smoothing"),
            ("burst", "bucket"),
            ("zone", "fixed"),
        ):
            if option in self.model_fields_set and self.semantics != of:
                raise ValueError(f"{option} belongs to {of} windows; remove it or set semantics: {of}")
        if "phase" in self.model_fields_set and self.window == DAY:
            raise ValueError("a day turns at midnight of its zone; set zone instead of phase")
        if self.semantics is Semantics.SMOOTHING and self.slice_value < 1:
            raise ValueError(
                f"{self.value} per {self.window_ns / 1e9:g}s is less than one per slice; take a longer slice"
            )
        if "charge" in self.model_fields_set and self.dimension is Dimension.REQUESTS:
            raise ValueError("charge belongs to token limits; a request is always charged at arrival")
        self.time_zone()
        return self

    @property
    def label(self) -> str:
        """Return how this limit is called in statistics: `requests/60s`, `concurrency`."""
        if self.window is None or self.window == DAY:
            return f"{self.dimension}/day" if self.window else str(self.dimension)
        return f"{self.dimension}/{self.window / 1e9:g}s"

    @property
    def window_ns(self) -> int:
        """Return the length of the window; a calendar day is counted as 24 hours, concurrency as none."""
        if self.window is None:
            return 0
        return _DAY_NS if self.window == DAY else int(self.window)

    @property
    def slice_ns(self) -> int:
        """Return the length of a slice of a smoothing limit; one second unless told."""
        return parse_duration("1s") if self.slice is None else self.slice

    @property
    def slice_value(self) -> int:
        """Return what fits into one slice of a smoothing limit, rounded down."""
        return self.value * self.slice_ns // self.window_ns

    def time_zone(self) -> tzinfo:
        """Return the zone whose midnight turns a day.

        Raises ValueError when the zone is unknown here.
        """
        if self.zone == "UTC":
            return UTC  # needs no zone database
        try:
            return ZoneInfo(self.zone)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError(f"no time zone {self.zone!r}; name one like America/Los_Angeles") from None

    def meter(self, release_lag_ns: int) -> Meter:
        """Return a fresh meter that counts as this limit says."""
        if self.dimension is Dimension.CONCURRENCY:
            return Slots(self.value, release_lag_ns)
        match self.semantics:
            case Semantics.FIXED if self.window == DAY:
                return FixedWindow(self.value, calendar_days(self.time_zone()))
            case Semantics.FIXED:
                return FixedWindow(self.value, aligned(self.window_ns, self.phase))
            case Semantics.SLIDING:
                return SlidingLog(self.value, self.window_ns)
            case Semantics.BUCKET:
                return Bucket(self.value, self.window_ns, self.burst)
            case Semantics.SMOOTHING:
                return SlidingLog(self.slice_value, self.slice_ns)


def _parse_limit(written: object) -> object:
    return LimitSpec.parse(written) if isinstance(written, str) else written


def _parse_fault(written: object) -> object:
    return Fault.parse(written) if isinstance(written, str) else written


class VendorSpec(BaseModel):
    """Everything a simulated vendor is told; every setting has a default that makes an unlimited vendor."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    dialects: Annotated[frozenset[Literal["openai", "anthropic"]], PlainSerializer(sorted)] = Field(
        default=frozenset({"openai", "anthropic"}), min_length=1
    )
    keys: list[str] | None = Field(default=None, min_length=1)
    shared_account: bool = False
    models: list[str] | None = Field(default=None, min_length=1)
    limits: list[Annotated[LimitSpec, BeforeValidator(_parse_limit)]] = []
    refused_count: bool = False
    release_lag: Duration = 0
    unset_max_tokens: int = Field(default=0, ge=0)
    first_token_s: Distribution = Distribution(mean=0.4)
    tokens_per_s: Distribution = Distribution(mean=80)
    output_tokens: Distribution = Distribution(mean=120, p95=300)
    on_disconnect: OnDisconnect = OnDisconnect.CONTINUE
    silent: bool = False
    retry_after: RetryAfter = RetryAfter.BOTH
    faults: list[Annotated[Fault, BeforeValidator(_parse_fault)]] = []
    seed: int = 1
    time_scale: float = Field(default=1.0, gt=0)
    starts_at: AwareDatetime | None = None

    @classmethod
    def load(cls, path: Path | str, changes: Mapping[str, Any] | None = None) -> Self:
        """Read a spec from a YAML file; `changes` take the place of the file's settings of the same name.

        Raises SpecError that names each wrong field and what to write instead.
        """
        try:
            written = yaml.safe_load(Path(path).read_text("utf-8"))
        except OSError as error:
            raise SpecError(f"{path}: cannot be read ({error.strerror})") from error
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise SpecError(f"{path}: not YAML: {error}") from error
        if written is None:
            written = {}
        return cls.build({**written, **(changes or {})} if isinstance(written, dict) else written, str(path))

    @classmethod
    def build(cls, written: object, origin: str = "spec") -> Self:
        """Check what was written (a mapping) and return the spec.

        Raises SpecError that names each wrong field and what to write instead.
        """
        try:
            return cls.model_validate(written)
        except ValidationError as error:
            raise SpecError("\n".join(_problems(error, origin, cls))) from error

    def as_yaml(self) -> str:
        """Return the spec as a YAML file that `load` reads back to the same spec."""
        whole = self.model_dump(mode="json", exclude_none=True)
        # Of limits and faults only what was set: most settings belong to one kind alone.
        for name, parts in (("limits", self.limits), ("faults", self.faults)):
            whole[name] = [part.model_dump(mode="json", by_alias=True, exclude_unset=True) for part in parts]
        return yaml.safe_dump(whole, sort_keys=False)


def _problems(error: ValidationError, origin: str, model: type[BaseModel]) -> list[str]:
    lines: list[str] = []
    for problem in error.errors():
        path = ".".join(str(step) for step in problem["loc"]) or "(whole)"
        message = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden" and len(problem["loc"]) == 1:
            message = f"no such setting; known are {', '.join(sorted(model.model_fields))}"
        elif problem["type"] == "extra_forbidden":
            message = "no such setting; remove it or correct its name"
        lines.append(f"{origin}: {path}: {message}")
    return lines
