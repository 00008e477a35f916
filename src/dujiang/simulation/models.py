"""The list of models, as each dialect has it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from dujiang.clock import SECOND
from dujiang.simulation.exchange import Json


def describe_model(dialect: str, model: str, since_ns: int) -> Json:
    """Return one model; it was made when the vendor started (nanoseconds since the epoch)."""
    if dialect == "anthropic":
        created = datetime.fromtimestamp(since_ns // SECOND, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return {"type": "model", "id": model, "display_name": model, "created_at": created, "lifecycle": "active"}
    return {"id": model, "object": "model", "created": since_ns // SECOND, "owned_by": "simulated"}


def list_models(dialect: str, models: Sequence[str], since_ns: int) -> Json:
    """Return the list of models, on one page."""
    data = [describe_model(dialect, model, since_ns) for model in models]
    if dialect == "anthropic":
        return {"data": data, "has_more": False, "first_id": models[0], "last_id": models[-1]}
    return {"object": "list", "data": data}
