"""Several workers: started, watched, replaced when they die, reloaded and drained together.

Each worker listens on the same address (SO_REUSEPORT) and shares every limit through one arena of memory. A
worker tells its siblings through a pipe when it frees something, so that theirs who wait look again at once.
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from dujiang.admission.shared import SharedArena
from dujiang.clock import SECOND, SystemClock
from dujiang.config import Config, ConfigInvalid, load_config
from dujiang.server.logs import set_up_logs
from dujiang.server.worker import file_state, listen

log = logging.getLogger("dujiang.supervisor")

_LOOK_S = 0.5
_RESTART_PAUSE_S = 0.2
_RESTARTS_MAX = 20
"""Deaths in a row within their first seconds after which a worker is given up."""
_YOUNG_NS = 5 * SECOND


class Supervisor:
    """Keeps the workers of one gateway."""

    def __init__(self, config: Config, config_path: Path) -> None:
        self._config = config
        self._path = config_path
        self._count = config.server.workers
        self._arena = SharedArena.create(self._count)
        self._bells = [socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in range(self._count)]
        for pair in self._bells:
            for end in pair:
                end.setblocking(False)
                end.set_inheritable(True)
        # Held without listening, so that the address stays ours while workers come and go.
        self._address = listen(config.server.host, config.server.port, shared=True)
        self.port = self._address.getsockname()[1]
        self._metrics_folder = tempfile.TemporaryDirectory(prefix="dujiang-metrics-")
        self._kept = Path(self._metrics_folder.name, "last-good.yaml")
        self._load()
        self._workers: list[subprocess.Popen[bytes]] = []
        self._started_at: list[int] = []
        self._deaths = [0] * self._count
        self._clock = SystemClock()
        self._stopping = False
        self._reloading = False

    def run(self) -> int:
        """Keep the workers until SIGTERM or Ctrl-C; return the exit code."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_stop)
        signal.signal(signal.SIGHUP, self._on_hangup)
        for number in range(self._count):
            self._workers.append(self._start(number))
            self._started_at.append(self._clock.now())
        seen = file_state(self._path)
        while not self._stopping:
            time.sleep(_LOOK_S if not self._reloading else 0)
            state = file_state(self._path)
            if self._reloading or (self._config.server.reload and state != seen):
                seen, self._reloading = state, False
                self._reload()
            self._replace_dead()
        return self._drain()

    def _start(self, number: int) -> subprocess.Popen[bytes]:
        arguments = [str(self._path), str(number), str(self._count), str(self._arena), str(self.port)]
        bells = ",".join(f"{mine.fileno()}:{theirs.fileno()}" for mine, theirs in self._bells)
        return subprocess.Popen(  # noqa: S603 (our own program)
            [sys.executable, "-m", "dujiang.server.worker_process", *arguments, bells, str(self._kept)],
            pass_fds=[self._arena, *(end.fileno() for pair in self._bells for end in pair)],
            env={**os.environ, "PROMETHEUS_MULTIPROC_DIR": self._metrics_folder.name},
        )

    def _replace_dead(self) -> None:
        for number, worker in enumerate(self._workers):
            if worker.poll() is None:
                continue
            if self._stopping:
                return
            young = self._clock.now() - self._started_at[number] < _YOUNG_NS
            self._deaths[number] = self._deaths[number] + 1 if young else 1
            log.error("a worker died and is replaced", extra={"worker": number, "code": worker.returncode})
            if self._deaths[number] > _RESTARTS_MAX:
                log.critical("a worker dies again and again; giving up", extra={"worker": number})
                self._stopping = True
                return
            if young:
                time.sleep(_RESTART_PAUSE_S)
            self._forget_metrics(worker.pid)
            self._workers[number] = self._start(number)
            self._started_at[number] = self._clock.now()

    def _forget_metrics(self, pid: int) -> None:
        for file in Path(self._metrics_folder.name).glob(f"gauge_live*_{pid}.db"):
            file.unlink(missing_ok=True)

    def _reload(self) -> None:
        try:
            self._load()
        except ConfigInvalid as error:
            log.error("the new configuration is refused; the old one stays", extra={"problems": str(error).split("\n")})
            return
        for worker in self._workers:
            worker.send_signal(signal.SIGHUP)

    def _load(self) -> None:
        """Load the file and keep a copy, so that a worker that dies is replaced whatever the file has become."""
        draft = self._kept.with_suffix(".draft")
        try:
            shutil.copyfile(self._path, draft)
        except OSError:
            draft = self._path
        self._config = load_config(draft)
        if draft is not self._path:
            draft.replace(self._kept)

    def _drain(self) -> int:
        for worker in self._workers:
            if worker.poll() is None:
                worker.send_signal(signal.SIGTERM)
        grace_ns = self._config.server.drain_timeout + 10 * SECOND
        deadline = self._clock.now() + grace_ns
        code = 0
        for worker in self._workers:
            try:
                ended = worker.wait(max((deadline - self._clock.now()) / SECOND, 0.1))
                # One that was told before it listened to signals had not begun to serve.
                code = code if ended == -signal.SIGTERM else ended or code
            except subprocess.TimeoutExpired:
                worker.kill()
                worker.wait()
                code = 1
        self._metrics_folder.cleanup()
        self._address.close()
        return code

    def _on_stop(self, *_: object) -> None:
        self._stopping = True

    def _on_hangup(self, *_: object) -> None:
        self._reloading = True


def supervise(config: Config, config_path: Path) -> int:
    """Run a gateway of several workers until SIGTERM; return the exit code."""
    from dujiang.server.serve import announce

    set_up_logs(config.telemetry.log_level)
    supervisor = Supervisor(config, config_path)
    announce(config, supervisor.port)
    return supervisor.run()
