"""The documentation is whole: alike in two languages, links lead somewhere, every name of the program is there."""

import inspect
import re
from typing import Any
from urllib.parse import unquote

import httpx
import msgspec
import pytest
from prometheus_client import CollectorRegistry
from tests.documents import DOCS, ROOT, Page, page, pages
from tests.gateways import KEY, gateway_before_vendor

from dujiang import errors, terms
from dujiang.gateway import request_headers
from dujiang.metering.record import Attempt, Durations, Outcome, Record, Stamps
from dujiang.server import http, http_protocol
from dujiang.server.cli import VERBS
from dujiang.server.configuration_page import documented_keys
from dujiang.server.pages import Pages
from dujiang.storage.sqlite import SqliteStore
from dujiang.terms import Dimension, Priority, Source
from dujiang.vendors.refusals import Meaning

ALL = {one.name: one for one in pages()}
ENGLISH = {name: one for name, one in ALL.items() if not one.is_chinese}
BOTH = pytest.mark.parametrize("suffix", ["", ".zh"])
_ORDINARY = {"date", "server", "content-type", "content-length", "connection", "transfer-encoding"}


@pytest.mark.parametrize("name", ALL)
def test_a_page_has_a_twin_with_the_same_shape(name):
    one = ALL[name]
    assert one.twin.exists(), f"write {one.twin.relative_to(ROOT)}"
    twin = Page(one.twin)
    assert [level for level, _ in one.headings()] == [level for level, _ in twin.headings()]
    assert [block.language for block in one.code()] == [block.language for block in twin.code()]
    assert [len(row) > 1 for row in one.rows()] == [len(row) > 1 for row in twin.rows()]


@pytest.mark.parametrize("name", ALL)
def test_links_lead_somewhere(name):
    one = ALL[name]
    wrong = []
    for link in one.links():
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = unquote(link).partition("#")
        target = (one.path.parent / path).resolve() if path else one.path
        if not target.exists() or ROOT not in target.parents:
            wrong.append(f"{link}: there is no such file")
        elif anchor and anchor not in Page(target).anchors():
            wrong.append(f"{link}: no such heading; there are {sorted(Page(target).anchors())}")
        elif target.suffix == ".md" and target != one.twin and Page(target).is_chinese != one.is_chinese:
            wrong.append(f"{link}: the other language")
    assert not wrong


@BOTH
def test_every_page_is_linked_from_the_index(suffix):
    index = page(f"index{suffix}")
    linked = {(index.path.parent / link.partition("#")[0]).resolve() for link in index.links()}
    written = {one.path for one in ALL.values() if one.is_chinese == bool(suffix) and DOCS in one.path.parents}
    assert written - linked - {index.path} == set()


@BOTH
def test_every_setting_has_a_heading(suffix):
    headings = {text.strip("`") for _, text in page(f"reference/configuration{suffix}").headings()}
    assert set(documented_keys()) <= headings


@BOTH
def test_every_verb_has_a_heading(suffix):
    headings = {text for _, text in page(f"reference/cli{suffix}").headings()}
    assert {f"dujiang {verb}" for verb in VERBS} <= headings


@pytest.mark.parametrize("name", ALL)
def test_settings_that_are_named_exist(name):
    sections = "server|storage|queue|estimates|telemetry"
    named = set(re.findall(rf"`((?:{sections})\.[a-z_]+|vendors\.NAME\.[a-z_.]+)[`:]", ALL[name].text))
    assert named <= set(documented_keys())


def error_classes():
    """Yield every class of errors a caller can meet."""
    classes = [errors.DujiangError]
    for one in classes:
        classes += one.__subclasses__()
    return {one.__name__: one for one in classes if one.__module__ == errors.__name__}


@BOTH
def test_every_error_has_a_row_that_is_true(suffix):
    rows = {row[5].strip("`"): row for row in page(f"reference/errors{suffix}").rows() if len(row) == 7}
    classes = error_classes()
    assert rows.keys() == classes.keys()
    for name, (code, status, kind, source, retry, _, when) in rows.items():
        error = classes[name]
        assert when
        assert source == error.source
        assert retry == {"": ("no", "yes"), ".zh": ("否", "是")}[suffix][error.retry], name
        if error is not errors.VendorRefused:
            assert status == str(error.status), name
            assert error.code is None or code == f"`{error.code}`", name
            assert f"`{error.type}`" in kind, name


@BOTH
def test_codes_of_the_door_are_told(suffix):
    refused = re.findall(r'_refuse\(\s*(\d+), "(\w+)"', inspect.getsource(http_protocol))
    assert len(refused) >= 4
    text = page(f"reference/errors{suffix}").text + page(f"reference/http-api{suffix}").text
    for status, code in refused:
        assert status in text, f"{status} {code}"
        assert f"`{code}`" in text, f"{status} {code}"


@BOTH
async def test_every_metric_has_a_row_with_its_labels(suffix):
    async with gateway_before_vendor() as (gateway, _):
        metrics = gateway.gateway.metrics
        assert metrics is not None
        registry: CollectorRegistry = metrics._registry
        collectors: list[Any] = list(registry._collector_to_names)
        found = {}
        for collector in collectors:
            (family,) = collector.describe()
            name = f"{family.name}_total" if family.type == "counter" else family.name
            found[name] = set(collector._labelnames)
    described = page(f"reference/metrics{suffix}")
    assert described.named() == set(found)
    for row in described.rows():
        labels = set(re.findall(r"`(\w+)`", row[1])) if len(row) == 3 else set()
        assert labels == found[row[0].strip("`")], row[0]


@pytest.mark.parametrize("name", ALL)
def test_metrics_that_are_named_exist(name):
    described = page("reference/metrics").named()
    suffixes = ("_bucket", "_sum", "_count")
    named = set(re.findall(r"\b(?:dujiang|gen_ai)_[a-z_]+[a-z]\b", re.sub(r"dujiang_\w+\.\w+", "", ALL[name].text)))
    labels = {"gen_ai_token_type"}
    unknown = {one for one in named - described - labels if not one.endswith(suffixes)}
    assert {one for one in unknown if f"{one}_total" not in described} == set()


@BOTH
def test_every_field_of_a_record_has_a_row(suffix):
    described = page(f"reference/records{suffix}")
    headings = [text for level, text in described.headings() if level == 2]
    fields, outcomes, attempts, durations, stamps = headings
    for heading, struct in ((fields, Record), (attempts, Attempt), (durations, Durations), (stamps, Stamps)):
        assert described.named(heading) == {field.name for field in msgspec.structs.fields(struct)}
    assert described.named(outcomes) == {outcome.value for outcome in Outcome}
    columns = {
        name
        for row in described.rows(fields)
        if row[1] == {"": "column", ".zh": "列"}[suffix]
        for name in re.findall(r"`(\w+)`", row[0])
    }
    store = SqliteStore("memory://")
    try:
        stored = {row["name"] for row in store._connection.execute("PRAGMA table_info(records)")}
    finally:
        store.close()
    assert columns == stored - {"detail"}


@BOTH
def test_every_route_has_a_row(suffix):
    described = page(f"reference/http-api{suffix}")
    routes = {f"POST {path.decode()}" for path in http._OPERATIONS}
    routes |= {f"GET {path}" for path in re.findall(r'"(/[\w/]+)"', inspect.getsource(Pages._page))}
    routes = {f"{route}NAME" if route.endswith("/") else route for route in routes}
    told = {
        f"{row[0]} {path}"
        for row in described.rows()
        if row[0] in ("GET", "POST")
        for path in re.findall("`(.+?)`", row[1])
    }
    assert told == routes


@BOTH
async def test_every_header_of_an_answer_has_a_row(suffix):
    described = {_plain(name) for name in page(f"reference/headers{suffix}").named()}
    seen: set[str] = set()
    values = {"requests": 3, "tokens": 10_000, "input_tokens": 500, "output_tokens": 10_000}
    limits = [{"dimension": dimension, "window": "60s", "value": value} for dimension, value in values.items()]
    limits.append({"dimension": "concurrency", "value": 5})
    body = {"model": "assistant", "max_tokens": 4, "messages": [{"role": "user", "content": "Hello"}]}
    too_large = {**body, "messages": [{"role": "user", "content": "x" * 200_000}]}
    async with gateway_before_vendor(limits=limits) as (gateway, _):
        async with httpx.AsyncClient(base_url=gateway.base_url, headers={"x-api-key": KEY}) as client:
            answers = [
                await client.post("/v1/chat/completions", json=body),
                await client.post("/v1/chat/completions", json={**body, "stream": True}),
                await client.post("/v1/messages", json=body),
                await client.post("/v1/messages/count_tokens", json=body),
                await client.post("/v1/chat/completions", json=too_large),
                await client.post("/v1/chat/completions", json=body),
                await client.get("/v1/chat/completions"),
                await client.get("/v1/models"),
            ]
    assert {answer.status_code for answer in answers} == {200, 405, 429}
    for answer in answers:
        seen |= {_plain(name) for name in answer.headers} - _ORDINARY
    sent = {_plain(name) for name in page(f"reference/headers{suffix}").named(_first_section(suffix))}
    assert seen - described == set(), "write a row"
    assert described - sent == seen, "no answer has this"


def _first_section(suffix: str) -> str:
    return next(text for level, text in page(f"reference/headers{suffix}").headings() if level == 2)


def _plain(header: str) -> str:
    """Return a header's name with `requests` for every dimension."""
    names = sorted((one.value.replace("_", "-") for one in Dimension), key=len, reverse=True)
    pattern = "|".join(names)
    header = re.sub(rf"^(x-ratelimit-\w+)-(?:{pattern})$", r"\1-requests", header)
    return re.sub(rf"^(anthropic-ratelimit)-(?:{pattern})-", r"\1-requests-", header)


@BOTH
def test_every_header_that_is_read_has_a_row(suffix):
    read = set(re.findall(r'headers(?:\.get\(|\[)b"([\w-]+)"', inspect.getsource(request_headers)))
    assert len(read) >= 5
    described = page(f"reference/headers{suffix}")
    told = set(
        re.findall(r"`([\w-]+)`", " ".join(cell for row in described.rows(_first_section(suffix)) for cell in row))
    )
    assert read <= told


@BOTH
def test_every_meaning_of_a_refusal_has_a_row(suffix):
    assert page(f"how-to/failover{suffix}").named() == {meaning.value for meaning in Meaning}


@BOTH
def test_every_word_has_a_meaning(suffix):
    described = page(f"glossary{suffix}")
    words = {word.strip() for row in described.rows() for word in row[0].split(",")}
    assert all(row[-1] for row in described.rows())
    types = {name for name, one in vars(terms).items() if isinstance(one, type) and one.__module__ == terms.__name__}
    assert {name.lower() for name in types} <= words
    asked_of_every_reader = {
        *("vendor", "credential", "deployment", "model", "operation", "tenant", "project", "key", "limit", "dimension"),
        *("reservation", "priority", "deadline", "call", "exchange", "record", "turn", "barge-in", "playout"),
    }
    assert asked_of_every_reader <= words
    rows = {row[0]: row[-1] for row in described.rows()}
    for word, enumeration in (("operation", terms.Operation), ("dialect", terms.Dialect), ("dimension", Dimension)):
        assert set(re.findall(r"`(\w+)`", rows[word])) == {one.value for one in enumeration}
    assert re.findall(r"`(\w+)`", rows["priority"]) == [one.name.lower() for one in Priority]
    assert re.findall(r"`(\w+)`", rows["source, owner"]) == [one.value for one in Source]
