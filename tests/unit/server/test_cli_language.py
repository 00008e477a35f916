"""The program speaks two languages, completely; and each verb starts fast."""

import ast
import json
import string
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from tests.commands import run
from typer.main import get_command as command_of

from dujiang.server import cli
from dujiang.server.cli import VERBS, app
from dujiang.server.cli.chinese_help import ERRORS, HELP
from dujiang.server.cli.language import Language, choose_language, say, spoken_language
from dujiang.server.cli.spoken_help import help_texts, spoken_error
from dujiang.server.cli.words import WORDS

SOURCES = Path(cli.__file__).parent


@pytest.fixture(autouse=True)
def _english(monkeypatch):
    for name in ("DUJIANG_LANGUAGE", "LC_ALL", "LC_MESSAGES", "LANG"):
        monkeypatch.delenv(name, raising=False)
    yield
    choose_language(None)


def fields(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}


@pytest.mark.parametrize("sentence", WORDS)
def test_each_sentence_is_there_in_both_languages_with_the_same_blanks(sentence):
    english, chinese = WORDS[sentence]
    assert bool(english) == bool(chinese)
    # A configuration's comments tell how a reference is written; nothing is filled in there.
    if not sentence.startswith("yaml_variables"):
        assert fields(english) == fields(chinese)


def test_each_sentence_that_is_said_is_there():
    literal = {
        node.args[0].value
        for path in SOURCES.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and getattr(node.func, "id", "") == "say"
        and isinstance(node.args[0], ast.Constant)
    }
    assert len(literal) > 50
    assert literal <= set(WORDS)


def test_no_sentence_is_left_over():
    written = {
        node.value
        for path in SOURCES.glob("*.py")
        if path.name != "words.py"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    # A comment of a first configuration and a column of the keys are named by the word that is filled in.
    assert {one for one in WORDS if not {one, one.removeprefix("yaml_"), one.removeprefix("key_")} & written} == set()


def all_help() -> set[str]:
    root = command_of(app)
    context = typer.Context(root)
    texts = help_texts(root) | {"Show this message and exit."}
    for verb in VERBS:
        texts |= help_texts(root.get_command(context, verb))
    return texts


def test_all_help_is_there_in_chinese_and_none_is_left_over():
    framework = {"Usage", "Options", "Arguments", "Commands", "default", "required"}
    assert set(HELP) == all_help() | framework | {verb.summary for verb in VERBS.values()}


@pytest.mark.parametrize("verb", VERBS)
def test_the_summary_of_a_verb_is_the_first_sentence_of_its_help(verb):
    root = command_of(app)
    help_text = root.get_command(typer.Context(root), verb).help
    assert help_text.split("\n\n")[0].replace("\n", " ") == VERBS[verb].summary


@pytest.mark.parametrize(
    ("environment", "language"),
    [
        ({}, Language.EN),
        ({"LANG": "zh_CN.UTF-8"}, Language.ZH),
        ({"LANG": "zh_CN.UTF-8", "LC_ALL": "C"}, Language.EN),
        ({"LANG": "C", "LC_MESSAGES": "zh_TW"}, Language.ZH),
        ({"LANG": "zh_CN.UTF-8", "DUJIANG_LANGUAGE": "en"}, Language.EN),
        ({"LANG": "en_US.UTF-8", "LC_ALL": "C", "DUJIANG_LANGUAGE": "zh"}, Language.ZH),
        ({"LANG": "de_DE.UTF-8"}, Language.EN),
    ],
)
def test_the_language_is_told_by_the_environment(monkeypatch, environment, language):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert spoken_language() is language


def test_the_language_chosen_goes_before_the_environment(monkeypatch):
    monkeypatch.setenv("LANG", "zh_CN.UTF-8")
    choose_language(Language.EN)
    assert say("port") == "port"


def test_help_is_told_in_both_languages():
    english = run("--help").output
    chinese = run("--language", "zh", "--help").output
    assert "Usage: dujiang" in english
    assert "Write a commented configuration to start from." in english
    assert "用法：dujiang" in chinese
    assert "写一份带注释的初始配置。" in chinese
    assert "Usage" not in chinese
    for verb in VERBS:
        assert verb in english
        assert verb in chinese


def test_the_help_of_a_verb_is_told_in_both_languages():
    assert "[default: dujiang.yaml]" in run("doctor", "--help").output
    chinese = run("doctor", "--help", env={"DUJIANG_LANGUAGE": "zh"}).output
    assert "[默认：dujiang.yaml]" in chinese
    assert "等待供应商连接与应答的最长时间。" in chinese
    assert "  revoke  Revoke a key" in run("keys", "--help").output
    assert "吊销密钥" in run("keys", "--help", env={"LANG": "zh_CN.UTF-8"}).output


def test_the_version_is_told():
    assert run("--version").output == f"Dujiang {cli.__version__}\n"


def explained(monkeypatch, capsys, *arguments: str) -> str:
    monkeypatch.setattr(sys, "argv", ["dujiang", *arguments])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == 2
    told = capsys.readouterr()
    assert told.out == ""
    return told.err


@pytest.mark.parametrize(
    ("arguments", "english", "chinese"),
    [
        (["serv"], "Error: No such command 'serv'. Did you mean 'serve'?", "错误：没有命令 'serv'；您是否要 'serve'？"),
        (["xyzzy"], "Error: No such command 'xyzzy'.", "错误：没有命令 'xyzzy'。"),
        (["init", "--paint"], "Error: No such option: --paint", "错误：没有选项 --paint。"),
        (["keys", "revoke"], "Error: Missing argument 'ID'.", "错误：缺少参数 'ID'。"),
        (["keys", "create"], "Error: Missing option '--tenant'.", "错误：缺少选项 '--tenant'。"),
        (["status", "--url"], "Error: Option '--url' requires an argument.", "错误：选项 '--url' 需要一个值。"),
        (["init", "a", "b"], "Error: Got unexpected extra argument(s) (b)", "错误：多余的参数（b）。"),
        (["--language", "de"], "Error: Invalid value for '--language'", "错误：'--language' 的值无效"),
    ],
)
def test_a_wrong_command_line_is_explained_in_both_languages(monkeypatch, capsys, arguments, english, chinese):
    assert english in explained(monkeypatch, capsys, *arguments)
    monkeypatch.setenv("DUJIANG_LANGUAGE", "zh")
    assert chinese in explained(monkeypatch, capsys, *arguments)


def test_a_wrong_command_line_points_to_the_help(monkeypatch, capsys):
    told = explained(monkeypatch, capsys, "keys", "create")
    assert told.startswith("Usage: dujiang keys create [OPTIONS]\n`dujiang keys create --help` tells more.\nError: ")


def test_no_command_shows_the_help(monkeypatch, capsys):
    assert "Commands:" in explained(monkeypatch, capsys)


def test_what_the_framework_says_else_is_left_as_it_is(monkeypatch):
    monkeypatch.setenv("LANG", "zh_CN")
    assert spoken_error("Something new.") == "Something new."
    assert len(ERRORS) == len({pattern for pattern, _ in ERRORS})


@pytest.mark.parametrize(
    ("arguments", "forbidden"),
    [
        (["--help"], {"pydantic", "rich", "uvicorn", "dujiang.config", "dujiang.server.app", "dujiang.simulation"}),
        (["serve", "--help"], {"rich", "dujiang.simulation", "dujiang.server.app", "dujiang.server.cli.words"}),
    ],
)
def test_a_verb_loads_only_what_it_needs(arguments, forbidden):
    code = (
        "import sys, json\nfrom dujiang.server.cli import main\n"
        f"sys.argv = ['dujiang', *{arguments!r}]\n"
        "try: main()\nexcept SystemExit: pass\n"
        "print(); print(json.dumps(list(sys.modules)))"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout
    loaded = set(json.loads(output.splitlines()[-1]))
    assert "dujiang.server.cli" in loaded
    assert not forbidden & loaded
