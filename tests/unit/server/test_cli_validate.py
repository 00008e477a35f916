"""`dujiang validate`: every mistake with its place and remedy, also those only the world around can tell."""

import sqlite3

import pytest
import trustme
from tests.commands import run, written


def config(**changes) -> dict:
    return {
        "storage": {"url": "memory://"},
        "vendors": {
            "acme": {
                "protocol": "openai",
                "profile": "openai",
                "credentials": [
                    {"name": "main", "key": "k", "limits": [{"dimension": "requests", "window": "60s", "value": 9}]}
                ],
            }
        },
        "models": {
            "assistant": {"deployments": [{"vendor": "acme", "credential": "main", "model": "gpt-4o-mini"}]},
            "writer": {"deployments": [{"vendor": "acme", "credential": "main", "model": "gpt-4o"}]},
        },
        "plans": {"starter": {"limits": [{"dimension": "concurrency", "value": 3}]}},
        "tenants": [
            {
                "id": "shop",
                "plan": "starter",
                "keys": [{"name": "dev", "secret": "secret-of-dev-0001"}],
                "projects": [{"id": "kiosk", "limits": [{"dimension": "concurrency", "value": 2}]}],
            }
        ],
        **changes,
    }


@pytest.fixture
def path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path / "dujiang.yaml"


def vendor(**changes) -> dict:
    changed = config()
    changed["vendors"]["acme"] |= changes
    return changed


def test_a_valid_file_is_summed_up(path):
    written(path, config())
    assert run("validate").output.splitlines() == [
        "dujiang.yaml is valid.",
        "vendors: 1 (acme), credentials: 1",
        "models: 2 (assistant, writer)",
        "tenants: 1 (shop), configured keys: 1",
        "limits: 3",
    ]


def test_a_file_that_lets_nobody_do_anything_is_noted(path):
    written(path, {"storage": {"url": "memory://"}})
    told = run("validate", path).output
    assert "no model is configured, so every call is refused; add `models`" in told
    assert "no tenant is configured, so nobody can call; add `tenants`" in told


def test_every_mistake_is_told_at_once(path):
    path.write_text("server:\n  prot: 1\n  port: 99999\nmodels:\n  a: {deployments: [{vendor: x}]}\n", encoding="utf-8")
    told = run("validate", path, status=2)
    assert told.stdout == ""
    assert told.stderr.splitlines() == [
        f"{path}:2: server.prot: unknown key; did you mean `port`?",
        f"{path}:3: server.port: input should be less than or equal to 65535, got 99999",
        f"{path}:5: models.a.deployments[0].credential: is missing; add `credential`",
        f"{path}:5: models.a.deployments[0].model: is missing; add `model`",
        "4 mistakes; nothing was done.",
    ]


def test_a_file_that_is_not_there_is_told(path):
    assert run("validate", status=2).stderr.splitlines() == [
        "dujiang.yaml: No such file or directory; `dujiang init` writes a file",
        "1 mistake; nothing was done.",
    ]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"profile": "opnai"}, ":6: vendors.acme.profile: there is no profile 'opnai'; did you mean 'openai'?"),
        ({"profile": "mine.yaml"}, ":6: vendors.acme.profile: mine.yaml: No such file or directory; check the path"),
        ({"protocol": "anthropic"}, ":5: vendors.acme.protocol: the profile 'openai' does not serve it; it serves:"),
        ({"profile": "generic"}, ":4: vendors.acme.base_url: the profile 'generic' has no address of its own; add"),
        ({"ca_file": "no.pem"}, "vendors.acme.ca_file: no.pem cannot be used: No such file or directory; name a"),
        ({"ca_file": "dujiang.yaml"}, "vendors.acme.ca_file: dujiang.yaml cannot be used:"),
        ({"proxy": "http://:3128"}, ":4: vendors.acme: "),
        ({"base_url": "http://"}, ":4: vendors.acme: "),
    ],
)  # fmt: skip
def test_what_a_vendor_lacks_is_told(path, changes, told):
    written(path, vendor(**changes))
    assert told in run("validate", path, status=2).stderr


def test_a_key_with_a_line_break_is_told_and_not_shown(path):
    changed = config()
    changed["vendors"]["acme"]["credentials"][0]["key"] = "hidden\nx-other: 1"
    written(path, changed)
    told = run("validate", path, status=2).stderr
    assert "models.assistant.deployments[0]: vendors.acme: a key, header or model name holds a line break" in told
    assert "hidden" not in told


def test_all_a_vendor_lacks_is_told_at_once(path):
    changed = vendor(profile="opnai", ca_file="no.pem")
    changed["vendors"]["other"] = changed["vendors"]["acme"] | {"profile": "generic", "ca_file": None}
    changed["storage"]["url"] = "sqlite:///dujiang.yaml"
    written(path, changed)
    told = run("validate", path, status=2).stderr
    for place in ("vendors.acme.profile", "vendors.acme.ca_file", "vendors.other.base_url", "storage.url"):
        assert place in told
    assert "4 mistakes" in told


def test_a_certificate_authority_of_ones_own_is_taken(path):
    trustme.CA().cert_pem.write_to_path(path.with_suffix(".pem"))
    written(path, vendor(ca_file="dujiang.pem"))
    run("validate", path)


def test_a_storage_that_can_be_made_is_fine_and_is_not_made(path):
    written(path, config(storage={"url": "sqlite:///data/deep/dujiang.db"}))
    run("validate", path)
    assert [one.name for one in path.parent.iterdir()] == ["dujiang.yaml"]


def test_a_storage_in_use_is_fine(path):
    database = sqlite3.connect(path.with_suffix(".db"), isolation_level=None)
    try:
        database.execute("CREATE TABLE t (x)")
        written(path, config(storage={"url": "sqlite:///dujiang.db"}))
        run("validate", path)
    finally:
        database.close()


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("sqlite:///dujiang.yaml/x.db", "cannot be used: Not a directory; correct storage.url"),
        ("sqlite:///dujiang.yaml", "cannot be used: file is not a database; correct storage.url"),
        ("sqlite:///.", "is a folder; name a file in storage.url"),
    ],
)
def test_a_storage_that_cannot_be_is_told(path, url, told):
    written(path, config(storage={"url": url}))
    stderr = run("validate", path, status=2).stderr
    assert f"{path}:2: storage.url: " in stderr
    assert told in stderr


def test_mistakes_are_told_in_chinese_too(path):
    written(path, vendor(profile="generic"))
    told = run("--language", "zh", "validate", path, status=2).stderr
    assert "档案 'generic' 没有自带地址；请添加 `base_url`" in told
    assert "有 1 处错误" in told
