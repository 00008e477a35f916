"""Models, deployments and what each key may do with them, out of one configuration after the other."""

from __future__ import annotations

from collections import Counter

import pytest
from tests.clocks import ManualClock

from dujiang.accounts.keys import Key, digest
from dujiang.clock import EpochTime
from dujiang.config import Config, parse_config
from dujiang.errors import InvalidKey, ModelNotFound, NotAllowed
from dujiang.gateway.catalogue import Catalogue
from dujiang.gateway.meter_book import MeterBook
from dujiang.terms import KeyId, Priority, ProjectId, TenantId

TEXT = """
vendors:
  acme:
    protocol: openai
    base_url: http://acme.test/v1
    credentials:
      - name: one
        key: ${ACME:-k1}
        owner: Example Ltd
        limits:
          - {dimension: requests, window: 60s, value: 60}
          - {dimension: tokens, window: 60s, value: 1000, models: [gpt]}
      - {name: two, key: k2, owner: Example Ltd, limits: [{dimension: requests, window: 60s, value: 60}]}
      - {name: three, key: k3, limits: [{dimension: requests, window: 60s, value: 60}]}
models:
  assistant:
    aliases: [gpt-4o]
    deployments:
      - {vendor: acme, credential: one, model: gpt}
      - {vendor: acme, credential: two, model: gpt}
      - {vendor: acme, credential: three, model: gpt}
  spread:
    strategy: weighted
    deployments:
      - {vendor: acme, credential: one, model: mini, weight: 5}
      - {vendor: acme, credential: two, model: mini, weight: 0}
      - {vendor: acme, credential: three, model: mini, weight: 2}
plans:
  starter:
    priority: interactive
    max_priority: interactive
    wait_at_limit: 3s
    limits:
      - {dimension: requests, window: 60s, value: 600}
      - {dimension: requests, window: 60s, value: 500}
      - {dimension: tokens, window: day, value: 1000, models: [spread]}
  narrow: {models: [assistant]}
tenants:
  - id: shop
    plan: starter
    keys:
      - {name: dev, secret: shop-secret-0123456789, limits: [{dimension: concurrency, value: 2}]}
    projects:
      - id: bot
        limits: [{dimension: requests, window: 1s, value: 3}]
        keys: [{name: dev, secret: bot-secret-0123456789, models: [spread]}]
  - {id: gone, plan: starter, enabled: false}
  - {id: small, plan: narrow}
"""


def key(
    tenant: str = "shop", project: str = "default", name: str = "dev", *, configured: bool = True, models=()
) -> Key:
    return Key(
        id=KeyId(f"{tenant}/{project}/{name}"), tenant=TenantId(tenant), project=ProjectId(project), name=name,
        digest=digest(b"x", b"p"), created_at=EpochTime(0), models=tuple(models), configured=configured,
    )  # fmt: skip


@pytest.fixture(name="book")
def _book() -> MeterBook:
    return MeterBook(ManualClock())


def config(text: str = TEXT, **environment: str) -> Config:
    return parse_config(text, environment)


def names(meters) -> list[str]:
    return sorted(meter.name for meter in meters)


def test_every_limit_on_the_way_of_a_call_counts_it_once(book: MeterBook) -> None:
    catalogue = Catalogue(config(), book)
    entitlement = catalogue.entitlement(key(), "assistant")
    assert names(entitlement.meters) == ["key shop/default/dev concurrency", "tenant shop requests/60s"]
    assert min(meter.limit for meter in entitlement.meters if meter.window_ns) == 500
    assert names(catalogue.entitlement(key(), "spread").meters) == [
        "key shop/default/dev concurrency", "tenant shop of spread tokens/day", "tenant shop requests/60s",
    ]  # fmt: skip
    assert names(catalogue.entitlement(key(project="bot"), "spread").meters) == [
        "project shop/bot requests/1s", "tenant shop of spread tokens/day", "tenant shop requests/60s",
    ]  # fmt: skip


def test_a_key_made_later_has_the_limits_of_its_tenant_and_project_only(book: MeterBook) -> None:
    catalogue = Catalogue(config(), book)
    made = key(name="dev", configured=False)
    assert names(catalogue.entitlement(made, "assistant").meters) == ["tenant shop requests/60s"]


def test_accounts_of_one_owner_share_their_limits(book: MeterBook) -> None:
    one, two, three = Catalogue(config(), book).routes["assistant"].candidates
    shared = next(meter for meter in one.meters if meter.name == "vendor acme/Example Ltd requests/60s")
    assert shared in two.meters
    assert names(three.meters) == ["vendor acme/three requests/60s"]
    assert "vendor acme/Example Ltd of gpt tokens/60s" in names(one.meters)
    mini = Catalogue(config(), book).routes["spread"].candidates[0]
    assert names(mini.meters) == ["vendor acme/Example Ltd requests/60s"]
    assert mini.meters[0] is shared


def test_aliases_are_the_model_itself(book: MeterBook) -> None:
    catalogue = Catalogue(config(), book)
    assert catalogue.entitlement(key(), "gpt-4o").route is catalogue.entitlement(key(), "assistant").route
    assert catalogue.model_names(key()) == ["assistant", "gpt-4o", "spread"]


def test_the_plan_says_how_urgent_and_how_patient_a_call_is(book: MeterBook) -> None:
    entitlement = Catalogue(config(), book).entitlement(key(), "assistant")
    assert entitlement.priority is entitlement.max_priority is Priority.INTERACTIVE
    assert entitlement.patience_ns == 3_000_000_000


def test_what_a_key_may_not_do(book: MeterBook) -> None:
    catalogue = Catalogue(config(), book)
    with pytest.raises(ModelNotFound, match="did you mean assistant"):
        catalogue.entitlement(key(), "assistent")
    with pytest.raises(NotAllowed, match="may not use the model"):
        catalogue.entitlement(key("small"), "spread")
    with pytest.raises(NotAllowed, match="may not use the model"):
        catalogue.entitlement(key(models=["spread"]), "assistant")
    assert catalogue.entitlement(key("small"), "gpt-4o").route.name == "assistant"
    with pytest.raises(NotAllowed, match="disabled"):
        catalogue.entitlement(key("gone"), "assistant")
    with pytest.raises(InvalidKey):
        catalogue.entitlement(key("nobody"), "assistant")


def test_weights_spread_calls_by_their_shares_and_nought_gets_none(book: MeterBook) -> None:
    route = Catalogue(config(), book).routes["spread"]
    firsts = Counter()
    for _ in range(70):
        order = route.ordered()
        assert len(order) == 2
        firsts[order[0].target.credential] += 1
    assert firsts == {"one": 50, "three": 20}
    in_order = Catalogue(config(), book).routes["assistant"]
    assert [one.target.credential for one in in_order.ordered()] == ["one", "two", "three"]


def test_a_reload_keeps_what_was_used(book: MeterBook) -> None:
    clock = ManualClock()
    book = MeterBook(clock)
    before = Catalogue(config(), book)
    meter = next(one for one in before.entitlement(key(), "assistant").meters if "requests" in one.name)
    meter.take(clock.now(), 7)
    after = Catalogue(config(TEXT.replace("value: 500", "value: 50")), book)
    again = next(one for one in after.entitlement(key(), "assistant").meters if "requests" in one.name)
    assert again is meter
    assert (again.limit, again.in_use(clock.now())) == (50, 7)
    assert again in after.tenant_meters(key())


def test_a_configuration_that_cannot_be_used_changes_nothing(book: MeterBook) -> None:
    before = Catalogue(config(), book)
    limits = {meter.name: meter.limit for meter in book.meters()}
    broken = (
        TEXT.replace("value: 60}", "value: 1}").replace("value: 500", "value: 5").replace("key: k3", 'key: "a\\nb"')
    )
    with pytest.raises(ValueError, match="line break"):
        Catalogue(config(broken), book)
    assert {meter.name: meter.limit for meter in book.meters()} == limits
    assert min(one.limit for one in before.tenant_meters(key()) if "requests/60s" in one.name) == 500


def test_keys_are_looked_up_again_when_told_to(book: MeterBook) -> None:
    catalogue = Catalogue(config(), book)
    first = catalogue.entitlement(key(), "assistant")
    assert catalogue.entitlement(key(), "assistant") is first
    catalogue.forget_keys()
    assert catalogue.entitlement(key(), "assistant") is not first
