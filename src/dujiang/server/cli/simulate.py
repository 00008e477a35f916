"""`dujiang simulate`: a strict simulated vendor to test an application against."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.table import Table

from dujiang.simulation.serving import run_vendor
from dujiang.simulation.spec import SpecError, VendorSpec

app = typer.Typer(help="Simulate what an application depends on.", no_args_is_help=True)


@app.callback()
def simulate() -> None:
    """Simulate what an application depends on."""


@app.command()
def vendor(
    *,
    spec: Annotated[Path | None, typer.Option(help="YAML file with the whole description.")] = None,
    dialect: Annotated[list[str] | None, typer.Option(help="openai or anthropic; both unless told.")] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")] = 9100,
    limit: Annotated[
        list[str] | None, typer.Option(help="A limit, like requests/60s=60:sliding or concurrency=5.")
    ] = None,
    fault: Annotated[
        list[str] | None, typer.Option(help="A fault, like storm,from=30s,until=60s or error,status=529,requests=5-9.")
    ] = None,
    key: Annotated[list[str] | None, typer.Option(help="A key to accept; any key unless told.")] = None,
    model: Annotated[list[str] | None, typer.Option(help="A model to serve; any model unless told.")] = None,
    first_token: Annotated[
        str | None, typer.Option(help="Seconds to the first token: a constant, or mean/p95 like 0.4/1.2.")
    ] = None,
    token_rate: Annotated[str | None, typer.Option(help="Tokens a second, alike; 0 is all at once.")] = None,
    output_tokens: Annotated[str | None, typer.Option(help="Length of an answer in tokens, alike.")] = None,
    on_disconnect: Annotated[str | None, typer.Option(help="continue or stop generating.")] = None,
    silent: Annotated[bool | None, typer.Option("--silent/--announced", help="Send no rate-limit headers.")] = None,
    refused_count: Annotated[bool | None, typer.Option(help="Whether refused requests count.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of every draw.")] = None,
    time_scale: Annotated[float | None, typer.Option(help="How many times faster than real time.")] = None,
    print_spec: Annotated[bool, typer.Option("--print-spec", help="Print the whole description and end.")] = False,
) -> None:
    """Serve a strict simulated vendor until Ctrl-C."""
    told = {
        "dialects": dialect,
        "limits": limit,
        "faults": fault,
        "keys": key,
        "models": model,
        "first_token_s": first_token,
        "tokens_per_s": token_rate,
        "output_tokens": output_tokens,
        "on_disconnect": on_disconnect,
        "silent": silent,
        "refused_count": refused_count,
        "seed": seed,
        "time_scale": time_scale,
    }
    described = _described(spec, {name: value for name, value in told.items() if value is not None and value != []})
    if print_spec:
        typer.echo(described.as_yaml(), nl=False)
        return
    try:
        run_vendor(described, host, port, lambda taken: _announce(described, host, taken))
    except OSError as error:
        _fail(f"cannot listen on {host}:{port}: {error.strerror}; choose another --host or --port")


def _described(path: Path | None, told: dict[str, Any]) -> VendorSpec:
    """Return what the file says with the command line's settings in place of its own; exits 2 when wrong."""
    try:
        return VendorSpec.build(told, "command line") if path is None else VendorSpec.load(path, told)
    except SpecError as error:
        _fail(str(error))


def _fail(message: str) -> NoReturn:
    Console(stderr=True).print(message, style="red", markup=False, highlight=False, soft_wrap=True)
    raise typer.Exit(2)


def _announce(spec: VendorSpec, host: str, port: int) -> None:
    address = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    console = Console()
    console.print(f"Simulated vendor at [bold]{address}[/bold]  (Ctrl-C ends it)")
    table = Table(box=None, show_header=False, pad_edge=False)
    if "openai" in spec.dialects:
        table.add_row("OpenAI base URL", f"{address}/v1")
    if "anthropic" in spec.dialects:
        table.add_row("Anthropic base URL", address)
    table.add_row("statistics", f"{address}/simulated/statistics")
    limits = [f"{limit.label}={limit.value} {limit.semantics if limit.window else ''}".strip() for limit in spec.limits]
    table.add_row("limits", ", ".join(limits) or "none")
    console.print(table)
