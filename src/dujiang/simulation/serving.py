"""A simulated vendor at an address of its own."""

from __future__ import annotations

import logging
import signal
import socket
from collections.abc import Callable

import uvicorn

from dujiang.simulation.spec import VendorSpec
from dujiang.simulation.vendor import SimulatedVendor, create_vendor


def vendor_server(vendor: SimulatedVendor) -> uvicorn.Server:
    """Return the HTTP server of a vendor, to be run on a socket that listens already."""
    logging.getLogger("uvicorn.error").addFilter(_intended)
    return uvicorn.Server(
        uvicorn.Config(
            vendor.app,
            interface="asgi3",
            http="httptools",
            loop="uvloop",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=1,
        )
    )


def run_vendor(
    spec: VendorSpec,
    host: str = "127.0.0.1",
    port: int = 9100,
    announce: Callable[[int], None] | None = None,
) -> None:
    """Serve a vendor until SIGINT or SIGTERM, then return.

    Port 0 takes a free one; `announce` is told the port once it listens. Raises OSError when the address
    cannot be had. Only for the main thread, which alone receives signals.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, port), family=family, backlog=4096) as listener:
        server = vendor_server(create_vendor(spec))

        def leave(number: int, frame: object) -> None:
            del number, frame
            server.should_exit = True

        # For signals before uvicorn listens to them, and those it raises again when it has shut down.
        former = {number: signal.signal(number, leave) for number in (signal.SIGINT, signal.SIGTERM)}
        if announce is not None:
            announce(listener.getsockname()[1])
        try:
            server.run(sockets=[listener])
        finally:
            for number, handler in former.items():
                signal.signal(number, handler)


def _intended(record: logging.LogRecord) -> bool:
    """Drop what uvicorn says of answers that end early: a cut is a fault that was asked for."""
    message = record.getMessage()
    return "without completing response" not in message and "timeout graceful shutdown" not in message
