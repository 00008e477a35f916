"""`dujiang init`: what it writes is valid for every vendor, in both languages, and nobody else can read it."""

import re
import shlex
import stat

import pytest
from tests.commands import run

from dujiang.config import load_config, parse_config
from dujiang.server.cli.language import Language, choose_language
from dujiang.server.cli.starter import SIMULATED, starter
from dujiang.server.cli.validate import around
from dujiang.simulation.spec import VendorSpec
from dujiang.vendors.profiles import load_profile, profile_names

NEEDED = re.compile(r"\$\{(\w+)\}")


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    yield
    choose_language(None)


def test_it_writes_a_file_only_its_owner_can_read(tmp_path):
    told = run("init").output
    path = tmp_path / "dujiang.yaml"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "Wrote dujiang.yaml" in told
    assert "export OPENAI_API_KEY=…" in told
    assert "dujiang keys create --tenant shop\n" in told
    config = load_config(path, {"OPENAI_API_KEY": "k"})
    assert config.vendors["openai"].profile == "openai"
    assert config.vendors["openai"].credentials[0].key.get_secret_value() == "k"


def test_the_steps_it_tells_name_the_file_where_that_is_needed(tmp_path):
    told = run("init", "gateway.yaml").output
    for step in ("dujiang doctor gateway.yaml", "--tenant shop --config gateway.yaml", "serve --config gateway.yaml"):
        assert step in told


def test_it_never_writes_over_a_file_unless_forced(tmp_path):
    path = tmp_path / "dujiang.yaml"
    path.write_text("mine", encoding="utf-8")
    path.chmod(0o644)
    told = run("init", status=1).output
    assert "dujiang.yaml is there already; choose another path, or --force to write over it." in told
    assert path.read_text(encoding="utf-8") == "mine"
    run("init", "--force")
    assert "openai" in path.read_text(encoding="utf-8")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_place_that_cannot_be_written_is_told():
    assert (
        "cannot be written: No such file or directory; choose another path."
        in run("init", "missing/dujiang.yaml", status=2).output
    )


def test_an_unknown_profile_is_told_with_the_nearest_name(tmp_path):
    assert "there is no profile 'opnai'; did you mean 'openai'?" in run("init", "--profile", "opnai", status=2).output
    assert not (tmp_path / "dujiang.yaml").exists()


def test_simulated_has_a_profile_of_its_own():
    assert "leave out --profile" in run("init", "--simulated", "--profile", "openai", status=2).output


@pytest.mark.parametrize("language", Language)
@pytest.mark.parametrize("profile", profile_names())
def test_the_file_for_each_vendor_is_valid_once_its_variables_are_set(profile, language):
    choose_language(language)
    first = starter(load_profile(profile), profile)
    uncommented = "\n".join(line for line in first.text.splitlines() if not line.lstrip().startswith("#"))
    assert tuple(dict.fromkeys(NEEDED.findall(uncommented))) == tuple(
        sorted(first.variables, key=lambda name: uncommented.index(f"${{{name}}}"))
    )
    values = {name: "http://127.0.0.1:8000/v1" if "URL" in name else "value" for name in first.variables}
    config = parse_config(first.text, values)
    assert around(config, first.text) == []
    (vendor,) = config.vendors.values()
    assert vendor.credentials[0].limits
    assert first.model in config.models
    assert first.tenant in [tenant.id for tenant in config.tenants]


@pytest.mark.parametrize("language", Language)
def test_what_is_commented_out_is_valid_too(language):
    choose_language(language)
    text = starter(load_profile(SIMULATED), SIMULATED).text
    for commented in ("# base_url:", "# owner:", "# aliases:", "# keys:"):
        assert text.count(commented) == 1
        text = text.replace(commented, commented.removeprefix("# "))
    config = parse_config(text, {"SHOP_KEY": "0123456789abcdef"})
    assert config.vendors["simulated"].base_url == "http://127.0.0.1:9100/v1"
    assert config.models["assistant"].aliases
    assert config.tenants[0].keys[0].name == "dev"


def test_the_file_for_the_simulated_vendor_needs_nothing_and_tells_how_to_start_it(tmp_path):
    told = run("init", "--simulated").output
    config = load_config(tmp_path / "dujiang.yaml", {})
    (line,) = [line for line in told.splitlines() if "dujiang simulate vendor" in line]
    options = shlex.split(line.partition("vendor")[2].rstrip(" &"))
    simulated = VendorSpec.build({"limits": [one for one in options if one != "--limit"]})
    configured = config.vendors["simulated"].credentials[0].limits
    assert [(one.dimension, one.window, one.value) for one in simulated.limits] == [
        (one.dimension, one.window, one.value) for one in configured
    ]


def test_a_published_limit_is_taken_over():
    text = starter(load_profile("moonshot"), "moonshot").text
    assert "{dimension: requests, window: 60s, value: 3}" in text
    assert "As published for: Tier0." in text
    assert "cautious guesses" not in text


def test_a_profile_of_ones_own_is_taken_by_its_path(tmp_path):
    (tmp_path / "acme.yaml").write_text(
        "name: Acme AI\ntitle: Acme\nprotocol: openai\n"
        "sources: [{url: https://docs.acme.example, read: 2026-11-21, what: all}]\n"
        "faces: {openai: {base_url: https://api.acme.example/v1, paths: {chat: /chat/completions}}}\n",
        encoding="utf-8",
    )
    run("init", "--profile", "acme.yaml")
    variables = {"ACME_AI_API_KEY": "k", "ACME_AI_MODEL": "m"}
    config = load_config(tmp_path / "dujiang.yaml", variables)
    assert config.vendors["acme_ai"].profile == "acme.yaml"
    assert config.models["assistant"].deployments[0].model == "m"


def test_it_writes_in_chinese(tmp_path):
    told = run("--language", "zh", "init").output
    assert "已写入 dujiang.yaml" in told
    assert "本网关的配置" in (tmp_path / "dujiang.yaml").read_text(encoding="utf-8")
