"""Faults are met on the event loop that the gateway runs on in production."""

import sys


def pytest_asyncio_loop_factories():
    if sys.platform == "win32":
        import asyncio

        return {"asyncio": asyncio.new_event_loop}
    import uvloop

    return {"uvloop": uvloop.new_event_loop}
