"""A simulated vendor on a free loopback port, inside the running event loop."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

from dujiang.clock import Clock
from dujiang.simulation.serving import vendor_server
from dujiang.simulation.spec import VendorSpec
from dujiang.simulation.vendor import SimulatedVendor, create_vendor


@contextlib.asynccontextmanager
async def serving(spec: VendorSpec, clock: Clock | None = None) -> AsyncIterator[tuple[SimulatedVendor, str]]:
    """Serve a vendor; yields it and its address (`http://127.0.0.1:PORT`, without `/v1`)."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    vendor = create_vendor(spec, clock)
    server = vendor_server(vendor)
    server.config.load()
    server.lifespan = server.config.lifespan_class(server.config)
    address = f"http://127.0.0.1:{listener.getsockname()[1]}"
    await server.startup(sockets=[listener])
    try:
        yield vendor, address
    finally:
        # uvicorn's own shutdown waits; nothing here is worth waiting for.
        for listening in server.servers:
            listening.close()
        for connection in list(server.server_state.connections):
            connection.transport.abort()
        tasks = list(server.server_state.tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
