"""Records of calls as tests need them: complete, with short names for what matters."""

from __future__ import annotations

import itertools
from typing import Any

from dujiang.clock import MILLISECOND, SECOND, EpochTime
from dujiang.metering.record import Attempt, Durations, Outcome, Record, Stamps

_numbers = itertools.count(1)


def stamps(**milliseconds: float) -> Stamps:
    """Return stamps given in milliseconds."""
    return Stamps(**{name: round(value * MILLISECOND) for name, value in milliseconds.items()})


def make_record(*, wall_ms: float = 20, tenant_queue_ms: float = 0, **fields: Any) -> Record:
    """Return the record of an answered chat call, with other fields where they are given."""
    number = next(_numbers)
    wall_ns, queue_ns = round(wall_ms * MILLISECOND), round(tenant_queue_ms * MILLISECOND)
    return Record(
        **{
            "request_id": f"req-{number}",
            "at": EpochTime(1_750_000_000 * SECOND + number * MILLISECOND),
            "tenant": "shop",
            "project": "default",
            "key": "shop/default/dev",
            "operation": "chat",
            "dialect": "chat",
            "model": "assistant",
            "priority": "standard",
            "stream": False,
            "deployment": "acme/main/m",
            "vendor_model": "m",
            "vendor_request_id": None,
            "attempts": (Attempt("acme/main/m", "ok", 200, wall_ns // 2),),
            "outcome": Outcome.OK,
            "owner": "vendor",
            "status": 200,
            "error": None,
            "waited_for": None,
            "estimated_input_tokens": 10,
            "estimated_output_tokens": 256,
            "input_tokens": 12,
            "output_tokens": 34,
            "cached_tokens": 0,
            "usage_source": "vendor",
            "reserved_tokens": 266,
            "extended_tokens": 0,
            "saved_tokens": 0,
            "cache": "none",
            "request_bytes": 80,
            "answer_bytes": 400,
            "fingerprint": "f" * 32,
            "normalised_fingerprint": "e" * 32,
            "end_user": None,
            "traceparent": None,
            "tags": {},
            "wall_ns": wall_ns,
            "durations": Durations(own=wall_ns - queue_ns, tenant_queue=queue_ns),
            "stamps": stamps(admitted=wall_ms / 8, pool=wall_ms / 4, first_client_write=wall_ms * 7 / 8),
        }
        | fields
    )
