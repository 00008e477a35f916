"""The pepper: one for all processes, made once, readable by its owner alone."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest

from dujiang.config import parse_config
from dujiang.server.pepper import load_pepper


def config(url: str, pepper: str | None = None):
    server = f"server: {{pepper: {pepper}}}" if pepper else ""
    return parse_config(f"storage: {{url: '{url}'}}\n{server}")


def test_it_is_made_once_and_kept_beside_the_database(tmp_path: Path) -> None:
    read = config(f"sqlite:///{tmp_path}/dujiang.db")
    made = load_pepper(read)
    assert load_pepper(read) == made
    assert len(made) == 32
    (file,) = tmp_path.iterdir()
    assert file.name == "dujiang.pepper"
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_configured_one_is_used_and_nothing_is_written(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/dujiang.db"
    one = load_pepper(config(url, "some pepper of any length"))
    assert one == load_pepper(config("memory://", "some pepper of any length"))
    assert one != load_pepper(config(url, "another pepper"))
    assert not list(tmp_path.iterdir())


def test_in_memory_it_is_new_every_time() -> None:
    read = config("memory://")
    assert load_pepper(read) != load_pepper(read)


def test_an_empty_file_is_an_error_and_not_a_known_pepper(tmp_path: Path) -> None:
    (tmp_path / "dujiang.pepper").write_text("")
    with pytest.raises(OSError, match=r"dujiang\.pepper is empty"):
        load_pepper(config(f"sqlite:///{tmp_path}/dujiang.db"))


def _load(url: str, start, results) -> None:
    read = config(url)
    start.wait(10)
    results.put(load_pepper(read))


def test_processes_that_start_at_once_have_the_same(tmp_path: Path) -> None:
    spawning = multiprocessing.get_context("spawn")
    for attempt in range(2):
        folder = tmp_path / str(attempt)
        folder.mkdir()
        start, results = spawning.Barrier(4), spawning.Queue()
        workers = [
            spawning.Process(target=_load, args=(f"sqlite:///{folder}/dujiang.db", start, results)) for _ in range(4)
        ]
        for worker in workers:
            worker.start()
        peppers = {results.get(timeout=20) for _ in workers}
        for worker in workers:
            worker.join(10)
        assert len(peppers) == 1
        assert [file.name for file in folder.iterdir()] == ["dujiang.pepper"]
