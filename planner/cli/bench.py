"""`planner bench`: load a server with clients, where no benchmark tool is installed."""

from pathlib import Path
from typing import Annotated

import typer

from planner.cli.common import JsonOption, print_json, reported

_SPEED = "Multiply measured times: the clock of `planner fake-engine --speed`."


def bench(
    url: Annotated[str, typer.Option(help="Where the engine answers, like http://127.0.0.1:8000.")],
    model: Annotated[str, typer.Option(help="The model's name, as the engine knows it.")],
    clients: Annotated[int, typer.Option(min=1, help="Clients, each with one request outstanding.")],
    requests: Annotated[int, typer.Option(min=1, help="Requests in all.")],
    input_tokens: Annotated[int, typer.Option(min=1, help="Tokens of every prompt.")],
    output_tokens: Annotated[int, typer.Option(min=2, help="Tokens of every answer.")],
    out: Annotated[Path | None, typer.Option(help="Write results as `vllm bench serve --save-result` does.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the random prompts.")] = 0,
    speed: Annotated[float, typer.Option(min=1e-6, envvar="PLANNER_FAKE_SPEED", help=_SPEED)] = 1.0,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds a request may take.")] = 600.0,
    json_output: JsonOption = False,
) -> None:
    """Load an OpenAI-compatible engine with a closed loop of clients, and measure mean TTFT and TPOT.

    Exit codes: 0 measured, 2 nothing answered.
    """
    import asyncio
    import json

    from planner import yaml_io
    from planner.trials.client import LoadTest, run

    with reported():
        if out is not None:
            yaml_io.check_writable(out)
        test = LoadTest(url, model, clients, requests, input_tokens, output_tokens, seed, speed, timeout)
        found = asyncio.run(run(test))
        if out is not None:
            yaml_io.write_text(out, json.dumps(found, indent=2) + "\n")
    if json_output:
        print_json(found)
        return
    typer.echo(f"{found['completed']} of {requests} requests answered in {found['duration']:.4g} s")
    typer.echo(f"mean TTFT {found['mean_ttft_ms']:.4g} ms, mean TPOT {found['mean_tpot_ms']:.4g} ms")
