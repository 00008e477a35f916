"""`dujiang simulate vendor` as a user types it."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from dujiang.server.cli.simulate import app
from dujiang.simulation.spec import VendorSpec

COMMAND = [sys.executable, "-c", "from dujiang.server.cli.simulate import app; app()", "vendor"]


def run(*arguments):
    return CliRunner().invoke(app, ["vendor", *arguments])


def test_options_and_file_make_one_spec(tmp_path):
    path = tmp_path / "vendor.yaml"
    path.write_text("seed: 4\nlimits: [requests/60s=60:sliding]\nsilent: true\n")
    told = run("--spec", str(path), "--limit", "concurrency=5", "--fault", "storm,from=30s,until=60s",
               "--dialect", "openai", "--first-token", "0.4/1.2", "--announced", "--print-spec")  # fmt: skip
    assert told.exit_code == 0, told.output
    printed = tmp_path / "printed.yaml"
    printed.write_text(told.output)
    spec = VendorSpec.load(printed)
    assert [limit.label for limit in spec.limits] == ["concurrency"]
    assert (spec.seed, spec.silent, spec.dialects) == (4, False, frozenset({"openai"}))
    assert spec.first_token_s.p95 == 1.2


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--limit", "requests=5"], "command line: limits.0: a limit of requests needs a window"),
        (["--fault", "earthquake"], "faults.0"),
        (["--spec", "nowhere.yaml"], "nowhere.yaml: cannot be read"),
        (["--time-scale", "0"], "time_scale"),
        (["--on-disconnect", "perhaps"], "'continue' or 'stop'"),
    ],
)
def test_mistakes_are_named_and_end_in_2(arguments, complaint):
    told = run(*arguments)
    assert told.exit_code == 2
    assert complaint in told.output


def test_a_taken_port_is_said_so():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        told = run("--port", str(taken.getsockname()[1]))
    assert told.exit_code == 2
    assert "choose another --host or --port" in told.output


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_says_where_it_listens_and_ends_with_0(number):
    with subprocess.Popen([*COMMAND, "--port", "0"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        first = process.stdout.readline().decode()
        assert re.search(r"http://127\.0\.0\.1:\d+", first)
        with socket.create_connection(("127.0.0.1", int(re.search(r":(\d+)", first)[1])), timeout=10):
            process.send_signal(number)
            _, errors = process.communicate(timeout=20)
    assert process.returncode == 0
    assert b"Traceback" not in errors
