"""`dujiang serve`: the gateway itself."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dujiang.server.cli.configured import DEFAULT_PATH, end, end_with_problems
from dujiang.server.cli.language import say


def serve(
    config: Annotated[Path, typer.Option(help="The configuration; it is loaded again when it changes.")] = DEFAULT_PATH,
) -> None:
    """Serve calls until SIGTERM or Ctrl-C."""
    from dujiang.config import ConfigInvalid
    from dujiang.server.serve import serve as serve_until_told

    try:
        status = serve_until_told(config)
    except ConfigInvalid as invalid:
        end_with_problems(config, invalid.problems)
    except (OSError, ValueError) as error:
        # An address in use, a folder that cannot be written, a vendor that is told wrongly.
        end(say("cannot_serve", error=getattr(error, "strerror", None) or error, config=config))
    if status:
        raise typer.Exit(status)
