"""What the two servers of the demo are told: the vendor's spec, and the gateway's configuration."""

from __future__ import annotations

import math
from typing import Any, Final

from dujiang.server.demo.processes import Address
from dujiang.server.demo.scenario import CONCURRENCY, FIRST_TOKEN_S, MODEL, TOKENS_PER_S, WINDOW_S, Scenario

VENDOR_KEY: Final = "demo-vendor-key"
GATEWAY_KEY: Final = "demo-gateway-key-0123456789"
NETWORK_SPREAD_S: Final = 0.3
"""How unevenly requests may reach the vendor, in seconds of the traffic; the gateway's own default."""
RELEASE_LAG_S: Final = 0.1
"""How long after the last byte the vendor frees a slot, in seconds of the traffic."""
EXPECTED_LAG_S: Final = 0.15
"""How long the gateway expects it to take, in seconds of the traffic: its default for a vendor nobody described."""


def vendor_spec(scenario: Scenario) -> dict[str, Any]:
    """Return the strict vendor's spec: rolling windows that count what a call really uses, and few slots."""
    return {
        "dialects": ["openai"],
        "keys": [VENDOR_KEY],
        "models": [MODEL],
        "limits": [
            {"dimension": "requests", "window": f"{WINDOW_S}s", "value": scenario.requests_limit},
            {
                "dimension": "tokens",
                "window": f"{WINDOW_S}s",
                "value": scenario.tokens_limit,
                "charge": "settled",
            },
            {"dimension": "concurrency", "value": CONCURRENCY},
        ],
        "first_token_s": FIRST_TOKEN_S,
        "tokens_per_s": TOKENS_PER_S,
        "release_lag": f"{RELEASE_LAG_S}s",
        "seed": scenario.seed,
        "time_scale": scenario.speed,
    }


def gateway_config(scenario: Scenario, gateway: Address, vendor: Address, storage_url: str) -> dict[str, Any]:
    """Return a configuration as a user would write it, each duration in compressed time."""
    window = _compressed(WINDOW_S, scenario.speed)
    return {
        "server": {"host": gateway.host, "port": gateway.port, "reload": False},
        "storage": {"url": storage_url},
        "queue": {"max_wait": _compressed(scenario.patience_s, scenario.speed)},
        "vendors": {
            "simulated": {
                "protocol": "openai",
                "base_url": f"{vendor.url}/v1",
                # Only so that the simulated vendor counts exactly the tokens of the trace.
                "forward_headers": ["x-simulate-*"],
                "network_spread": _compressed(NETWORK_SPREAD_S, scenario.speed),
                "release_lag": _compressed(EXPECTED_LAG_S, scenario.speed),
                "credentials": [
                    {
                        "name": "main",
                        "key": "${DEMO_VENDOR_KEY}",
                        "limits": [
                            {"dimension": "requests", "window": window, "value": scenario.requests_limit},
                            {"dimension": "tokens", "window": window, "value": scenario.tokens_limit},
                            {"dimension": "concurrency", "value": CONCURRENCY},
                        ],
                    }
                ],
            }
        },
        "models": {MODEL: {"deployments": [{"vendor": "simulated", "credential": "main", "model": MODEL}]}},
        "plans": {"demo": {"weight": 1}},
        "tenants": [{"id": "shop", "plan": "demo", "keys": [{"name": "demo", "secret": "${DEMO_GATEWAY_KEY}"}]}],
    }


def _compressed(duration_s: float, speed: float) -> str:
    return f"{math.ceil(duration_s / speed * 1e6) / 1000}ms"
