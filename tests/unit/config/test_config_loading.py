"""A configuration is read whole, or every mistake in it is named with path, line and remedy."""

import textwrap

import pytest

from dujiang.config import ConfigInvalid, load_config, parse_config
from dujiang.config.loading import line_of
from dujiang.terms import Dimension

GOOD = """\
server: {host: 127.0.0.1, port: 8700}
storage: {url: "sqlite:///dujiang.db"}
vendors:
  acme:
    protocol: openai
    base_url: http://127.0.0.1:9100/v1/
    credentials:
      - name: main
        key: ${ACME_KEY}
        limits:
          - {dimension: requests, window: 60s, value: 60}
          - {dimension: concurrency, value: 5}
models:
  assistant:
    deployments:
      - {vendor: acme, credential: main, model: gpt-4o-mini}
plans:
  starter: {limits: [{dimension: requests, window: day, value: 600, time_zone: Asia/Shanghai}]}
tenants:
  - {id: shop, plan: starter, keys: [{name: dev, secret: "${SHOP_KEY}"}]}
"""
ENVIRONMENT = {"ACME_KEY": "vendor-key", "SHOP_KEY": "0123456789abcdef"}


def problems_of(text: str, environment=None) -> list[str]:
    with pytest.raises(ConfigInvalid) as caught:
        parse_config(textwrap.dedent(text), ENVIRONMENT if environment is None else environment)
    assert str(caught.value) == "\n".join(map(str, caught.value.problems))
    return [str(problem) for problem in caught.value.problems]


def test_a_whole_configuration_is_read():
    config = parse_config(GOOD, ENVIRONMENT)
    acme = config.vendors["acme"]
    assert acme.base_url == "http://127.0.0.1:9100/v1"
    assert acme.credentials[0].key.get_secret_value() == "vendor-key"
    assert acme.credentials[0].limits[0].dimension is Dimension.REQUESTS
    assert acme.credentials[0].limits[0].window == 60_000_000_000
    assert config.plans["starter"].limits[0].is_day
    assert config.plans["starter"].limits[0].zone.key == "Asia/Shanghai"
    assert config.tenants[0].keys[0].secret.get_secret_value() == "0123456789abcdef"
    assert "vendor-key" not in repr(config)
    assert "0123456789abcdef" not in repr(config)


def test_a_file_is_read(tmp_path):
    path = tmp_path / "dujiang.yaml"
    path.write_text(GOOD, encoding="utf-8")
    assert load_config(path, ENVIRONMENT) == parse_config(GOOD, ENVIRONMENT)


def test_the_environment_of_the_process_is_used_unless_told(tmp_path, monkeypatch):
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    path = tmp_path / "dujiang.yaml"
    path.write_text(GOOD, encoding="utf-8")
    assert load_config(path) == parse_config(GOOD, ENVIRONMENT)


def test_a_file_that_cannot_be_read_is_named_with_a_remedy(tmp_path):
    for path, told in (
        (tmp_path / "missing.yaml", "No such file or directory; `dujiang init` writes a file"),
        (tmp_path, "Is a directory"),
    ):
        with pytest.raises(ConfigInvalid, match=told) as caught:
            load_config(path)
        assert caught.value.problems[0].path == str(path)
    latin = tmp_path / "latin.yaml"
    latin.write_bytes(b"# caf\xe9\n")
    with pytest.raises(ConfigInvalid, match="not UTF-8 text; save it as UTF-8"):
        load_config(latin)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", ["file: empty; `dujiang init` writes one to start from"]),
        ("# nothing\n", ["file: empty; `dujiang init` writes one to start from"]),
        ("- a\n- b\n", ["file: must be a mapping with keys such as server, vendors, models"]),
        ("just text", ["file: must be a mapping with keys such as server, vendors, models"]),
        ("server: {port: 1\nmodels: [", ["line 2: file: not valid YAML"]),
        ("server:\n\tport: 1\n", ["line 2: file: not valid YAML: found character '\\t' that cannot start any token"]),
        ("a: &a [*b]\n", ["line 1: file: not valid YAML: found undefined alias"]),
    ],
)
def test_what_is_no_mapping_in_yaml_is_told(text, told):
    found = problems_of(text)
    assert len(found) == len(told)
    for problem, expected in zip(found, told, strict=True):
        assert problem.startswith(expected), problem


@pytest.mark.parametrize("text", ["tenants: &t [*t]\n", "tenants: " + "[" * 5000 + "]" * 5000])
def test_an_alias_within_itself_and_too_deep_nesting_are_told(text):
    assert problems_of(text) == ["file: nested too deeply, or an alias refers to itself"]


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("2026-13-45", "line 1: file: not valid YAML: month must be in 1..12; put it in quotes"),
        ("!unknown x", "line 1: file: not valid YAML: could not determine a constructor for the tag '!unknown'"),
        (
            "!!int many",
            "line 1: file: not valid YAML: invalid literal for int() with base 10: 'many'; put it in quotes",
        ),
    ],
)
def test_a_value_that_yaml_cannot_make_is_told(value, told):
    assert problems_of(GOOD.replace("8700", value)) == [told]


def test_a_variable_that_is_not_set_is_told_once():
    assert problems_of(GOOD.replace("8700", "${PORT}")) == [
        "line 1: server.port: the environment variable PORT is not set; export it before the start"
    ]


def test_an_anchor_may_be_used_twice():
    text = GOOD.replace("limits: [{dimension: requests, window: day", "limits: &l [{dimension: requests, window: day")
    text += "  - {id: bakery, plan: big}\n"
    text = text.replace("tenants:\n", "  big: {limits: *l}\ntenants:\n")
    config = parse_config(text, ENVIRONMENT)
    assert config.plans["big"].limits == config.plans["starter"].limits


@pytest.mark.parametrize(
    ("change", "told"),
    [
        # Unknown keys, near and far, at every depth.
        (("server: {host", "server: {hosts: x, host"), "line 1: server.hosts: unknown key; did you mean `host`?"),
        (
            ("protocol: openai", "protocol: openai\n    rpm: 5"),
            "line 6: vendors.acme.rpm: unknown key; known here: base_url,",
        ),
        (("value: 60}", "value: 60, burst: 3}"), "line 11: ~.limits[0].burst: unknown key; known"),
        (
            ("model: gpt-4o-mini", "modle: x, model: gpt-4o-mini"),
            "line 16: models.assistant.deployments[0].modle: unknown key; did you mean `model`?",
        ),
        (("plans:", "plan:\nplans:"), "line 17: plan: unknown key; did you mean `plans`?"),
        # Missing keys.
        (("    protocol: openai\n", ""), "line 4: vendors.acme.protocol: is missing; add `protocol`"),
        (("vendor: acme, ", ""), "line 16: models.assistant.deployments[0].vendor: is missing; add `vendor`"),
        ((", value: 5", ""), "line 12: ~.limits[1].value: is missing; add `value`"),
        # Wrong values.
        (("port: 8700", "port: 99999"), "line 1: server.port: input should be less than or equal to 65535, got 99999"),
        (("port: 8700", "port: http"), "line 1: server.port: input should be a valid integer, unable to parse string"),
        (
            ("protocol: openai", "protocol: grpc"),
            "line 5: vendors.acme.protocol: input should be 'openai' or 'anthropic', got 'grpc'",
        ),
        (
            ("http://127.0.0.1:9100/v1/", "127.0.0.1:9100"),
            "line 6: vendors.acme.base_url: must begin with http:// or https://",
        ),
        (("value: 60}", "value: 0}"), "line 11: ~.limits[0].value: input should be greater than 0, got 0"),
        (("window: 60s", "window: 60"), "line 11: ~.limits[0].window: 60 has no unit; write 60s or 60ms"),
        (("window: 60s, ", ""), "line 11: ~.limits[0]: requests needs a window; add for example `window: 60s`"),
        (
            ("concurrency, value", "concurrency, window: 60s, value"),
            "line 12: ~.limits[1]: concurrency has no window; remove `window`",
        ),
        (("value: 60}", "value: 60, slice: 1s}"), "line 11: ~.limits[0]: `slice` goes with `shape: slice`"),
        (("value: 60}", "value: 60, shape: slice}"), "line 11: ~.limits[0]: `shape: slice` needs `slice`"),
        (
            ("dimension: requests, window: 60s", "dimension: calls, window: 60s"),
            "line 11: ~.limits[0].dimension: input should be 'requests', 'input_tokens'",
        ),
        (
            ("Asia/Shanghai", "Mars/Olympus"),
            "line 18: plans.starter.limits[0].time_zone: 'Mars/Olympus' is no time zone; write for example UTC",
        ),
        (
            ("sqlite:///dujiang.db", "postgresql://x"),
            "line 2: storage.url: storage is `sqlite:///file.db` or `memory://`",
        ),
        (("  acme:\n", "  -acme:\n"), "line 4: vendors.-acme: string should match pattern"),
        (("id: shop", "id: a shop"), "line 20: tenants[0].id: string should match pattern"),
        (
            ("port: 8700", "port: 8700, workers: 0"),
            "line 1: server.workers: input should be greater than or equal to 1, got 0",
        ),
        (
            ("port: 8700", "port: 8700, max_body: huge"),
            "line 1: server.max_body: 'huge' is not a size; write for example 64KiB or 25MiB",
        ),
        (("vendors:\n", "vendors: []\nx:\n"), "line 3: vendors: input should be a valid dictionary"),
        # Written twice.
        (("models:\n", "models: {}\nmodels:\n"), "line 14: models: written twice (first in line 13); remove one"),
        (
            ("port: 8700}", "port: 8700, port: 8701}"),
            "line 1: server.port: written twice (first in line 1); remove one",
        ),
        # Missing environment variables.
        (("${ACME_KEY}", "${ACME_KEE}"), "line 9: ~.key: the environment variable ACME_KEE is not set; export it"),
        (
            ("host: 127.0.0.1", "host: ${HOST}"),
            "line 1: server.host: the environment variable HOST is not set; export it before the start",
        ),
    ],
)
def test_each_mistake_is_named_by_path_line_and_remedy(change, told):
    text = GOOD.replace(*change, 1)
    assert text != GOOD
    found = problems_of(text)
    told = told.replace("~", "vendors.acme.credentials[0]")
    assert any(problem.startswith(told) for problem in found), found


def test_all_mistakes_are_told_at_once_in_the_order_of_the_file():
    text = (
        GOOD.replace("port: 8700", "port: -1").replace("${ACME_KEY}", "${NOT_SET}").replace("value: 5}", "value: 5x}")
    )
    assert [problem.split(": ")[:2] for problem in problems_of(text)] == [
        ["line 1", "server.port"],
        ["line 9", "vendors.acme.credentials[0].key"],
        ["line 12", "vendors.acme.credentials[0].limits[1].value"],
    ]


def test_a_mistake_in_the_only_item_of_a_list_is_told_once():
    text = GOOD.replace("credential: main, model: gpt-4o-mini", "credential: main, model: gpt-4o-mini, weight: -1")
    assert problems_of(text) == [
        "line 16: models.assistant.deployments[0].weight: input should be greater than or equal to 0, got -1"
    ]


def test_an_empty_list_where_one_is_needed_is_told():
    text = GOOD.replace("      - {vendor: acme, credential: main, model: gpt-4o-mini}\n", "      []\n")
    assert problems_of(text) == [
        "line 15: models.assistant.deployments: tuple should have at least 1 item after validation, not 0"
    ]


@pytest.mark.parametrize("value", ["${SHOP_KEY}", "'${SHOP_KEY}'", '"${SHOP_KEY}"', "${UNSET:-0123456789abcdef}"])
def test_a_reference_may_stand_bare_or_quoted_or_have_a_default(value):
    config = parse_config(GOOD.replace('"${SHOP_KEY}"', value), ENVIRONMENT)
    assert config.tenants[0].keys[0].secret.get_secret_value() == "0123456789abcdef"


def test_a_reference_stands_for_text_whatever_it_holds():
    environment = ENVIRONMENT | {"ACME_KEY": "a: {b} # c ${SHOP_KEY}"}
    config = parse_config(GOOD, environment)
    assert config.vendors["acme"].credentials[0].key.get_secret_value() == "a: {b} # c ${SHOP_KEY}"


def test_a_reference_can_be_a_part_of_a_value_and_a_number():
    text = GOOD.replace("http://127.0.0.1:9100/v1/", "http://${HOST:-localhost}:${PORT}/v1").replace("8700", "${DOOR}")
    config = parse_config(text, ENVIRONMENT | {"PORT": "9", "DOOR": "8800"})
    assert config.vendors["acme"].base_url == "http://localhost:9/v1"
    assert config.server.port == 8800


def test_an_empty_default_is_a_value_and_an_empty_variable_is_not():
    assert parse_config(GOOD.replace("key: ${ACME_KEY}", "key: ${UNSET:-}"), ENVIRONMENT)
    assert problems_of(GOOD, ENVIRONMENT | {"ACME_KEY": ""}) == [
        "line 9: vendors.acme.credentials[0].key: the environment variable ACME_KEY is not set; "
        "export it before the start"
    ]


def test_a_reference_in_a_comment_is_no_reference():
    assert parse_config(f"# ${{NOT_SET}}\n{GOOD}# ${{NOT_SET}}\n", ENVIRONMENT)


@pytest.mark.parametrize(
    ("change", "secret"),
    [
        (('secret: "${SHOP_KEY}"', "secret: short-secret"), "short-secret"),
        (("key: ${ACME_KEY}", "key: [hidden-key]"), "hidden-key"),
        (("port: 8700}", "port: 8700, pepper: [hidden-pepper]}"), "hidden-pepper"),
        (("port: 8700}", "port: 8700, pepper: 7355608}"), "7355608"),
        (("protocol: openai", "protocol: openai\n    proxy: me:hidden-word@proxy:3128"), "hidden-word"),
        (("protocol: openai", "protocol: openai\n    proxy: 7355608"), "7355608"),
    ],
)
def test_no_problem_shows_a_secret(change, secret):
    found = problems_of(GOOD.replace(*change))
    assert found
    assert not any(secret in problem for problem in found)


def test_a_short_secret_is_told_with_a_remedy():
    found = problems_of(GOOD.replace('"${SHOP_KEY}"', "short"))
    assert found == [
        "line 20: tenants[0].keys[0].secret: a secret needs at least 16 characters; "
        "`dujiang keys create` makes a good one"
    ]


def test_values_are_final():
    config = parse_config(GOOD, ENVIRONMENT)
    with pytest.raises(ValueError, match="frozen"):
        config.server.port = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("server", "port"), 1),
        (("vendors", "acme", "profile"), 4),
        (("vendors", "acme", "credentials", 0, "limits", 1), 12),
        (("models", "assistant", "deployments", 0), 16),
        (("telemetry", "metrics"), 1),
    ],
)
def test_the_line_of_a_path_is_its_own_or_that_of_what_is_nearest_above(path, line):
    assert line_of(GOOD, path) == line
