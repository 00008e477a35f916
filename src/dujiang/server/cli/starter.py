"""The text of a first configuration for a vendor."""

from __future__ import annotations

import re
from dataclasses import dataclass

from dujiang.server.cli.language import say
from dujiang.terms import Dimension
from dujiang.vendors.profile_schema import Profile, PublishedLimit

SIMULATED = "simulated"
"""The profile of `dujiang simulate vendor`, which takes any key and serves any model."""
_MODEL = "assistant"
_TENANT = "shop"
_LOOPBACK = "http://127.0.0.1"


@dataclass(frozen=True, slots=True)
class Starter:
    """A first configuration, and what its user must know: variables to set, names to call."""

    text: str
    variables: tuple[str, ...]
    tenant: str
    model: str
    simulation: str
    """Options of `dujiang simulate vendor` that make it as strict as the limits say."""


def starter(profile: Profile, written: str) -> Starter:
    """Return a first configuration for a profile; `written` is how the user names it."""
    face = profile.face()
    assert face is not None
    vendor = re.sub(r"[^a-z0-9]+", "_", profile.name.lower()).strip("_") or "vendor"
    variable = vendor.upper()
    needed: list[str] = []
    key = f"${{{variable}_API_KEY}}"
    if face.base_url.startswith(_LOOPBACK):
        key = f"${{{variable}_API_KEY:-none}}"
    else:
        needed.append(f"{variable}_API_KEY")
    if face.base_url:
        address = f"    # base_url: {face.base_url}  # {say('yaml_own_address')}"
    else:
        address = f"    base_url: ${{{variable}_BASE_URL}}"
        needed.append(f"{variable}_BASE_URL")
    model, aliases = _vendor_model(profile, variable)
    if model.startswith("${"):
        needed.append(model[2:-1])
    limits = _limits(profile, model)
    text = _TEXT.format(
        vendor=vendor,
        profile=written,
        protocol=profile.protocol,
        address=address,
        key=key,
        limits_comment=say("yaml_published", tier=limits[0].tier) if limits[0].tier else say("yaml_cautious"),
        limits="\n".join(f"          - {_written(limit)}" for limit in limits),
        model=model,
        aliases=aliases,
        name=_MODEL,
        tenant=_TENANT,
        **{word: say(f"yaml_{word}") for word in _COMMENTS},
    )
    simulation = " ".join(f"--limit {_simulated(limit)}" for limit in limits)
    return Starter(text, tuple(needed), _TENANT, _MODEL, simulation)


def _vendor_model(profile: Profile, variable: str) -> tuple[str, str]:
    """Return the vendor's model, and the line that lets callers keep its name where it is known."""
    if profile.name == SIMULATED:
        return SIMULATED, f"    # aliases: [gpt-4o-mini]  # {say('yaml_aliases')}"
    if not profile.models:
        return f"${{{variable}_MODEL}}", f"    # aliases: [other-name]  # {say('yaml_aliases')}"
    name = profile.models[0].name
    return name, f"    aliases: [{name}]  # {say('yaml_aliases')}"


def _limits(profile: Profile, model: str) -> list[PublishedLimit]:
    """Return what the vendor publishes for a new account, else something cautious."""
    for_model = [one for one in profile.published if one.model in ("", model)]
    lowest = [one for one in for_model if one.tier == for_model[0].tier]
    return lowest or [
        PublishedLimit(tier="", dimension=Dimension.REQUESTS, window="60s", value=60),
        PublishedLimit(tier="", dimension=Dimension.TOKENS, window="60s", value=100_000),
        PublishedLimit(tier="", dimension=Dimension.CONCURRENCY, value=5),
    ]


def _written(limit: PublishedLimit) -> str:
    window = f"window: {limit.window}, " if limit.window else ""
    return f"{{dimension: {limit.dimension}, {window}value: {limit.value}}}"


def _simulated(limit: PublishedLimit) -> str:
    return f"{limit.dimension}/{limit.window}={limit.value}" if limit.window else f"{limit.dimension}={limit.value}"


_COMMENTS = (
    "head",
    "variables",
    "server",
    "storage",
    "profile_comment",
    "owner",
    "account",
    "models",
    "deployments",
    "plans",
    "tenants",
    "keys",
    "configured_key",
)

_TEXT = """\
# {head}
# {variables}

server:
  host: 127.0.0.1  # {server}
  port: 8700

storage:
  url: sqlite:///dujiang.db  # {storage}

vendors:
  {vendor}:
    profile: {profile}  # {profile_comment}
    protocol: {protocol}
{address}
    credentials:
      - name: main
        key: {key}
        # owner: Example Ltd  # {owner}
        # {account}
        # {limits_comment}
        limits:
{limits}

models:
  {name}:  # {models}
{aliases}
    deployments:  # {deployments}
      - {{vendor: {vendor}, credential: main, model: "{model}"}}

plans:
  standard:  # {plans}
    limits:
      - {{dimension: requests, window: 60s, value: 600}}

tenants:
  - id: {tenant}  # {tenants}
    plan: standard
    # {keys}
    # {configured_key}
    # keys: [{{name: dev, secret: "${{SHOP_KEY}}"}}]
"""
