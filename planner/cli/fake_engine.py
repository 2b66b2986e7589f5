"""`planner fake-engine`: a server that answers at the pace of a cost model."""

from typing import Annotated

import typer

from planner.cli.common import reported

_CALIBRATION = "Efficiencies that decide its pace: a shipped name, or a path."


def fake_engine(
    model: Annotated[str, typer.Option(help="A shipped architecture, or the path of a config.json.")],
    system: Annotated[str, typer.Option(help="A shipped device, like h100-sxm, or a path.")],
    backend: Annotated[str, typer.Option(help="The engine whose scheduling it follows.")] = "vllm",
    precision: Annotated[str, typer.Option(help="Of the weights.")] = "bf16",
    kv_precision: Annotated[str, typer.Option(help="Of the KV cache.")] = "bf16",
    tp: Annotated[int, typer.Option(min=1)] = 1,
    pp: Annotated[int, typer.Option(min=1)] = 1,
    attention_dp: Annotated[int, typer.Option(min=1)] = 1,
    ep: Annotated[int, typer.Option(min=1)] = 1,
    max_num_seqs: Annotated[int, typer.Option(min=0, help="0 for the engine's default.")] = 0,
    max_num_batched_tokens: Annotated[int, typer.Option(min=0, help="0 for the engine's default.")] = 0,
    input_tokens: Annotated[int, typer.Option(min=1, help="Lengths to be ready for before it listens.")] = 16,
    output_tokens: Annotated[int, typer.Option(min=2)] = 16,
    calibration: Annotated[str, typer.Option(envvar="PLANNER_FAKE_CALIBRATION", help=_CALIBRATION)] = "textbook",
    host: Annotated[str, typer.Option()] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 for any that is free.")] = 8000,
    speed: Annotated[
        float, typer.Option(min=1e-6, envvar="PLANNER_FAKE_SPEED", help="Divide all times by this.")
    ] = 1.0,
    fault: Annotated[
        str, typer.Option(envvar="PLANNER_FAKE_FAULT", help="none, hang, garbage or too_fast: for tests.")
    ] = "none",
) -> None:
    """Serve an OpenAI-compatible endpoint without a model, for tests and tutorials.

    Requests wait and stream as the cost model says they would on that replica. Ends when it is interrupted. Exit codes:
    2 where such a replica cannot run.
    """
    import asyncio

    from planner.catalog import load_calibration
    from planner.catalog.rows import Row
    from planner.errors import InputError
    from planner.fake_engine.pace import Pace
    from planner.fake_engine.server import FAULTS, FakeEngine
    from planner.posterior import Posterior

    with reported():
        if fault not in FAULTS:
            raise InputError.single("--fault", f"must be one of {', '.join(FAULTS)} (got '{fault}')")
        replica = Row(
            id="replica", model=model, system=system, backend=backend, backend_version="", precision=precision, tp=tp,
            pp=pp, attention_dp=attention_dp, moe_tp=tp * attention_dp // ep or 1, ep=ep, concurrency=1, isl=2, osl=2,
            length_factor=1.0, kv_precision=kv_precision, max_num_seqs=max_num_seqs,
            max_num_batched_tokens=max_num_batched_tokens,
        )  # fmt: skip
        pace = Pace(replica, Posterior.of(load_calibration(calibration).value))
        pace.curve(input_tokens, output_tokens)  # refuses here what cannot run, as an engine would

        async def serve() -> None:
            server = await FakeEngine(pace, speed, fault).serve(host, port)
            address = server.sockets[0].getsockname()
            typer.echo(f"serving {model} at http://{address[0]}:{address[1]}")
            await server.serve_forever()

        try:
            asyncio.run(serve())
        except OSError as error:
            raise InputError.single(f"{host}:{port}", f"cannot listen there: {error.strerror}") from None
        except KeyboardInterrupt:
            pass
