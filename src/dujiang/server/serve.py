"""`dujiang serve`: one process, or a supervisor with several."""

from __future__ import annotations

import sys
from pathlib import Path

from dujiang.config import Config, load_config
from dujiang.server.traces import trace_export
from dujiang.server.worker import listen, run_worker


def serve(config_path: Path) -> int:
    """Serve until SIGTERM or Ctrl-C; return the exit code.

    Raises ConfigInvalid, OSError (address in use), ValueError (what only the start can find out).
    """
    config = load_config(config_path)
    if config.server.workers > 1:
        from dujiang.server.supervisor import supervise

        # What no worker could begin with is told once, here, not by workers that die.
        if (traces := trace_export(config)) is not None:
            traces.close()

        return supervise(config, config_path)
    listener = listen(config.server.host, config.server.port, shared=False)
    with listener:
        run_worker(config, config_path, listener, ready=lambda: announce(config, listener.getsockname()[1]))
    return 0


def announce(config: Config, port: int) -> None:
    """Tell on standard error where the gateway listens."""
    sys.stderr.write(f"Dujiang listens on http://{config.server.host}:{port}/v1\n")
    sys.stderr.flush()
