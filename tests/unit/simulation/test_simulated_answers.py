"""What a simulated model says, and how fast, in virtual time."""

from __future__ import annotations

import asyncio
import json
import selectors

import pytest

from dujiang.simulation.draws import Distribution, chance
from dujiang.simulation.exchange import Ask, Refused, Tool
from dujiang.simulation.generation import estimate_tokens, generate, unit_vector
from dujiang.simulation.schemas import InvalidSchema, satisfy
from dujiang.simulation.spec import VendorSpec
from dujiang.simulation.vendor import create_vendor


class SkippingSelector(selectors.DefaultSelector):
    """Never sleeps: moves the loop's time forward instead."""

    def __init__(self):
        super().__init__()
        self.at = 0.0

    def select(self, timeout=None):
        ready = super().select(0)
        if not ready and timeout:
            self.at += timeout
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop in which time passes only while everybody waits."""

    def __init__(self):
        self.skipping = SkippingSelector()
        super().__init__(self.skipping)

    def time(self):
        return self.skipping.at

    def now(self):
        return round(self.skipping.at * 1e9)

    def wall(self):
        return 1_700_000_000_000_000_000 + self.now()


def in_virtual_time(play, **settings):
    """Run `play(vendor, loop)` on a virtual loop whose time is the vendor's."""
    loop = VirtualLoop()
    try:
        return loop.run_until_complete(play(create_vendor(VendorSpec.build(settings), loop), loop))
    finally:
        loop.close()


async def call(vendor, loop, *, stream=False, leaves_after=None, tokens=10, path="/v1/chat/completions"):
    """Call the vendor without a network; return what it sent, each message with its time."""
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "Hi"}], "stream": stream})
    messages = [{"type": "http.request", "body": body.encode()}]
    sent = []
    leaves_at = None if leaves_after is None else loop.time() + leaves_after

    async def receive():
        if messages:
            return messages.pop()
        await (asyncio.Event().wait() if leaves_at is None else asyncio.sleep(leaves_at - loop.time()))
        return {"type": "http.disconnect"}

    async def send(message):
        sent.append((round(loop.time(), 3), message))

    headers = [(b"authorization", b"Bearer k"), (b"x-simulate-output-tokens", b"%d" % tokens)]
    await vendor.app({"type": "http", "method": "POST", "path": path, "headers": headers}, receive, send)
    return sent


def test_an_answer_takes_the_time_to_its_first_token_and_then_its_rate():
    async def play(vendor, loop):
        whole = await call(vendor, loop)
        streamed = await call(vendor, loop, stream=True)
        return whole, streamed

    whole, streamed = in_virtual_time(play, first_token_s=0.5, tokens_per_s=20)
    assert whole[0][0] == pytest.approx(0.5 + 9 / 20)
    times = [at - whole[-1][0] for at, message in streamed if message.get("body")]
    assert times == pytest.approx([0.5 + i / 20 for i in range(10)] + [0.95])


def test_faster_tokens_travel_together_and_time_may_be_compressed():
    async def play(vendor, loop):
        return await call(vendor, loop, stream=True, tokens=1000)

    sent = in_virtual_time(play, first_token_s=2, tokens_per_s=100, time_scale=100)
    bodies = [m["body"] for _, m in sent if "body" in m]
    assert sent[0][0] == pytest.approx(0.02)
    assert sent[-1][0] == pytest.approx(0.02 + 999 / 100 / 100, abs=0.002)
    assert len(bodies) < 30
    assert b"".join(bodies).count(b"data: ") == 1 + 1000 + 1 + 1  # role, tokens, finish, [DONE]


def test_latency_and_slowness_are_faults_that_can_be_asked_for():
    async def play(vendor, loop):
        return (await call(vendor, loop))[0][0]

    pace = {"first_token_s": 0.5, "tokens_per_s": 20}
    assert in_virtual_time(play, **pace, faults=["latency,factor=4,delay=1s"]) == pytest.approx(0.5 * 4 + 1 + 0.45)
    assert in_virtual_time(play, **pace, faults=["slow,delay=100ms"]) == pytest.approx(0.5 + 9 * 0.15)
    assert in_virtual_time(play, **pace, faults=["hang,delay=3s"]) == pytest.approx(3.95)


def test_a_slot_is_free_only_after_the_answer_and_its_lag():
    async def play(vendor, loop):
        await call(vendor, loop)
        at_once = (await call(vendor, loop))[0][1]
        await asyncio.sleep(0.3)
        later = (await call(vendor, loop))[0][1]
        return at_once, later, vendor.statistics()

    at_once, later, facts = in_virtual_time(
        play, limits=["concurrency=1"], release_lag="300ms", first_token_s=0.6, tokens_per_s=0
    )
    assert at_once["status"] == 429
    assert dict(at_once["headers"])[b"retry-after-ms"] == b"300"
    assert later["status"] == 200
    assert facts["limits"][0]["used_share"] == pytest.approx((0.6 + 0.3 + 0.6) / 1.5, abs=0.01)


def test_generated_tokens_count_while_they_are_generated_streamed_or_not():
    for stream in (True, False):

        async def play(vendor, loop, stream=stream):
            running = asyncio.ensure_future(call(vendor, loop, stream=stream, tokens=100))
            seen = []
            for _ in range(4):
                await asyncio.sleep(0.5)
                seen.append(vendor.statistics()["limits"][0]["used"])
            await running
            return seen, vendor.statistics()["limits"][0]

        seen, limit = in_virtual_time(
            play, limits=["output_tokens/60s=1000:sliding,charge=generated"], first_token_s=0.5, tokens_per_s=40
        )
        assert seen == pytest.approx([0, 20, 40, 60], abs=11)
        assert limit["used"] == limit["charged"] == 100


@pytest.mark.parametrize(
    ("policy", "ends_after", "outcome"), [("continue", 10.0, "finished"), ("stop", 1.0, "abandoned")]
)
def test_a_vendor_goes_on_generating_for_nobody_or_stops(policy, ends_after, outcome):
    async def play(vendor, loop):
        await call(vendor, loop, stream=True, leaves_after=1.0, tokens=101)
        return loop.time(), vendor.statistics()["requests"]

    at, requests = in_virtual_time(play, first_token_s=0, tokens_per_s=10, on_disconnect=policy)
    assert at == pytest.approx(ends_after, abs=0.11)
    assert requests[outcome] == 1
    assert requests["in_flight"] == 0


def test_an_answer_has_the_length_that_is_demanded_or_drawn_and_never_more_than_allowed():
    lengths = Distribution(mean=30, p95=60)

    def pieces(**settings):
        return generate(Ask({}, "m", False, 1, **settings), lengths, 1, "subject")

    drawn, short = pieces()
    assert pieces()[0] == drawn
    assert short == [False]
    assert generate(Ask({}, "m", False, 1), lengths, 2, "subject")[0] != drawn
    assert len(pieces(output_tokens=77)[0]) == 77
    assert pieces(output_tokens=77, max_tokens=10)[1] == [True]
    assert pieces(output_tokens=10, max_tokens=10)[1] == [False]
    assert len(pieces(max_tokens=3, choices=2)[0]) == 6
    assert [p.choice for p in pieces(max_tokens=3, choices=2)[0]] == [0, 1] * 3
    assert pieces(output_tokens=0)[0] == []
    text = "".join(p.text for p in pieces(output_tokens=50)[0])
    assert len(text.split()) == 50
    assert text[0].isupper()
    assert text.endswith(".")


def test_tool_calls_mark_where_they_open_and_close():
    tool = Tool("weather", {"type": "object", "required": ["city"], "properties": {"city": {"type": "string"}}})
    pieces, _ = generate(Ask({}, "m", False, 1, tools_called=[tool, tool]), Distribution(mean=5), 1, "s")
    assert [p.part for p in pieces if p.opens] == [0, 1] == [p.part for p in pieces if p.closes]
    for part in (0, 1):
        assert set(json.loads("".join(p.text for p in pieces if p.part == part))) == {"city"}


def test_input_is_a_quarter_of_the_characters_rounded_up():
    assert [estimate_tokens(n) for n in (0, 1, 4, 5, 400)] == [1, 1, 1, 2, 100]


def test_vectors_have_length_one_and_their_own_direction():
    one, other = unit_vector(100, 1, "river"), unit_vector(100, 1, "weir")
    assert sum(x * x for x in one) == pytest.approx(1)
    assert one == unit_vector(100, 1, "river")
    assert abs(sum(x * y for x, y in zip(one, other, strict=True))) < 0.5


NODE = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "child": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}},
    "required": ["name", "child"],
}
TREE = {"$defs": {"node": NODE}, "$ref": "#/$defs/node"}


def is_tree(value):
    return value is None or (isinstance(value["name"], str) and is_tree(value["child"]))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    ("schema", "right"),
    [
        ({"const": 4}, lambda v: v == 4),
        ({"enum": ["a", 2, None]}, lambda v: v in ("a", 2, None)),
        ({"type": "integer", "minimum": -3, "maximum": -1}, lambda v: -3 <= v <= -1 and isinstance(v, int)),
        ({"type": "integer", "exclusiveMinimum": 4, "exclusiveMaximum": 6}, lambda v: v == 5),
        ({"type": "integer", "multipleOf": 7, "minimum": 15, "maximum": 22}, lambda v: v == 21),
        ({"type": "number", "maximum": -100}, lambda v: v <= -100),
        ({"type": "string", "minLength": 30}, lambda v: len(v) >= 30),
        ({"type": "string", "maxLength": 2}, lambda v: len(v) <= 2),
        ({"type": "string", "format": "date"}, lambda v: v.count("-") == 2),
        ({"type": ["null", "boolean"]}, lambda v: isinstance(v, bool)),
        ({"type": "array", "items": {"type": "integer"}, "minItems": 3}, lambda v: len(v) >= 3),
        ({"type": "array", "items": {"type": "integer"}, "maxItems": 0}, lambda v: v == []),
        ({"type": "object"}, lambda v: v == {}),
        ({"type": "null"}, lambda v: v is None),
        ({"oneOf": [{"type": "null"}, {"type": "integer"}]}, lambda v: isinstance(v, int)),
        ({"allOf": [{"properties": {"a": {"const": 1}}, "required": ["a"]},
                    {"properties": {"b": {"const": 2}}, "required": ["b"]}]}, lambda v: v == {"a": 1, "b": 2}),
        (TREE, lambda v: v is not None and is_tree(v)),
        ({"$ref": "#"}, lambda v: isinstance(v, str)),
        ({}, lambda v: isinstance(v, str)),
    ],
)  # fmt: skip
def test_values_satisfy_their_schema(schema, right, seed):
    assert right(satisfy(schema, chance(seed, "schema")))


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "string", "minLength": "long"},
        {"type": "string", "minLength": 10**12},
        {"type": "array", "minItems": 10**9, "items": {}},
        {"type": "integer", "minimum": "low"},
        {"type": "integer", "multipleOf": 0.0, "minimum": 1e400},
        {"type": "object", "properties": [1], "required": ["a"]},
    ],
)
def test_what_is_no_schema_is_refused(schema):
    with pytest.raises(InvalidSchema):
        satisfy(schema, chance(1))
    with pytest.raises(Refused) as refused:
        generate(Ask({}, "m", False, 1, answer_schema=schema), Distribution(mean=5), 1, "s")
    assert refused.value.status == 400
