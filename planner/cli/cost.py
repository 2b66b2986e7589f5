"""`planner cost`: one step of a model on a device, operator by operator."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from planner.cli.common import JsonOption, print_json, print_table, reported
from planner.errors import InputError

if TYPE_CHECKING:
    from planner.columns.operators import StepCosts
    from planner.costs.breakdown import LayerCost, OperatorCost

_MICROSECONDS = 1e6
_UNITS = {"flop": "flop", "vector flop": "flop", "byte": "byte", "link byte": "byte", "latency": "s"}


def cost(
    model: Annotated[str, typer.Argument(help="A shipped name, a Hugging Face id, or a config.json.")],
    hardware: Annotated[str, typer.Option(help="A shipped device, or the path of a specification.")],
    engine: Annotated[str, typer.Option(help="The serving engine.")] = "vllm",
    requests: Annotated[int, typer.Option(min=1, help="Requests in the step, over the whole replica.")] = 32,
    context: Annotated[int, typer.Option(min=0, help="Tokens each request holds already.")] = 2048,
    new_tokens: Annotated[int, typer.Option(min=1, help="Tokens each adds: 1 decodes, more prefills.")] = 1,
    tp: Annotated[int, typer.Option(min=1, help="Tensor-parallel degree.")] = 1,
    pp: Annotated[int, typer.Option(min=1, help="Pipeline stages.")] = 1,
    attention_dp: Annotated[int, typer.Option(min=1, help="Attention ranks with requests of their own.")] = 1,
    ep: Annotated[int, typer.Option(min=1, help="Expert-parallel degree.")] = 1,
    precision: Annotated[str | None, typer.Option(help="Of the weights; default: the checkpoint's own.")] = None,
    kv_precision: Annotated[str, typer.Option(help="Of the KV cache.")] = "bf16",
    acceptance: Annotated[str, typer.Option(help="Of draft tokens, like '0.8,0.6'; default: no drafts.")] = "",
    expert_exchange: Annotated[str, typer.Option(help="all_gather or all_to_all; default: the engine's.")] = "",
    calibration: Annotated[str, typer.Option(help="A shipped set of efficiencies, or a path.")] = "textbook",
    decode_tp: Annotated[
        int | None, typer.Option(min=1, help="Also price handing a request's cache to a decode pool of this tp.")
    ] = None,
    latex: Annotated[bool, typer.Option("--latex", help="Print the formulas as LaTeX.")] = False,
    json_output: JsonOption = False,
) -> None:
    """Show what one step costs: formula, value, share of the step and bound of every operator."""
    from planner.catalog.rows import read_acceptance
    from planner.columns.operators import cache_transfer, not_deployable, step_costs

    with reported():
        reason = not_deployable(
            hardware=hardware, efficiencies=calibration, model=model, backend=engine, precision=precision,
            kv_precision=kv_precision, tp=tp, pp=pp, attention_dp=attention_dp, ep=ep, longest=context + new_tokens,
            drafts=len(read_acceptance(acceptance)),
        )  # fmt: skip
        if reason:
            raise InputError.single("", reason)
        found = step_costs(
            hardware=hardware, efficiencies=calibration, model=model, backend=engine, precision=precision,
            sequences=requests, context=context, new_tokens=new_tokens, tp=tp, pp=pp, attention_dp=attention_dp, ep=ep,
            kv_precision=kv_precision, speculative_acceptance=acceptance, expert_exchange=expert_exchange,
        )  # fmt: skip
        moved = None
        if decode_tp is not None:
            moved = cache_transfer(
                hardware=hardware, efficiencies=calibration, model=model, backend=engine, tokens=context + new_tokens,
                prefill_tp=tp, decode_tp=decode_tp, precision=precision, kv_precision=kv_precision,
            )  # fmt: skip
    if json_output:
        print_json(_data(found) | ({} if moved is None else {"transfer": moved}))
    elif latex:
        for line in _latex(found):
            typer.echo(line)
    else:
        _print(found)
        if moved is not None:
            sizes = f"{moved['sent'] / 1e9:.3f} GB sent per device, {moved['received'] / 1e9:.3f} GB received"
            where = f"from tp{tp} to tp{decode_tp} on another node"
            typer.echo(f"cache of one request, {where}: {sizes}, {moved['seconds'] * 1e3:.1f} ms")


def _print(found: "StepCosts") -> None:
    from planner.text import aligned

    headers = ("operator", "one layer", "share", "bound by")
    for layer in found["layers"]:
        if not layer.operators:
            continue
        times = aligned(headers, [_row(found, layer, operator) for operator in layer.operators], headers)
        typer.echo(f"{layer.layer} × {layer.layers:g}")
        for line, operator in zip(times, (None, *layer.operators), strict=True):
            typer.echo(f"  {line}")
            if operator:
                for name, text in operator.formulas.items():
                    typer.echo(f"      {name} = {text} = {_amount(name, operator)}")
        typer.echo()
    rows = [[name, _time(value), _share(found, value)] for name, value in _others(found).items() if value]
    print_table(["of the whole stage", "time", "share"], rows)
    typer.echo()
    kind = "captured graph" if found["captured"] else "launched layer by layer"
    stages = f", {found['stages']} stages in a row" if found["stages"] > 1 else ""
    typer.echo(f"step {found['seconds'] * 1e3:.3f} ms ({kind}{stages}); symbols: docs/reference/symbols.md")
    if found["accepted"] > 1:
        each = found["seconds"] / found["accepted"]
        typer.echo(f"a request gains {found['accepted']:.2f} tokens by it: {each * 1e3:.3f} ms per token")
    fits = "" if found["weights_bytes"] < found["capacity_bytes"] else ": they do not fit"
    sizes = f"{found['weights_bytes'] / 1e9:.1f} GB of {found['capacity_bytes'] / 1e9:.1f} GB"
    typer.echo(f"weights take {sizes} on the fullest device{fits}")


def _others(found: "StepCosts") -> dict[str, float]:
    """Time of a stage that is no operator's: the shares of these and of the operators add up to the step."""
    return {
        "saved by overlaps": -sum(layer.layers * layer.saved for layer in found["layers"]),
        "launch floors": sum(layer.layers * layer.floor for layer in found["layers"]),
        "launches beyond them": found["launch_seconds"],
        "drafts": found["draft_seconds"],
        "host": found["seconds"] / found["stages"] - found["device_seconds"],
    }


def _row(found: "StepCosts", layer: "LayerCost", operator: "OperatorCost") -> list[str]:
    share = _share(found, layer.layers * operator.seconds)
    bound = found["engine_names"].get(operator.bound_by, operator.bound_by)
    return [operator.operator, _time(operator.seconds), share, bound]


def _time(seconds: float) -> str:
    return f"{seconds * _MICROSECONDS:.2f} us"


def _share(found: "StepCosts", seconds: float) -> str:
    return f"{found['stages'] * seconds / found['seconds']:.1%}"


def _amount(name: str, operator: "OperatorCost") -> str:
    from planner.text import scaled

    return scaled(operator.amounts[name], _UNITS[name])


def _latex(found: "StepCosts") -> Iterator[str]:
    """One aligned block per layer kind, an equation per formula."""
    for layer in found["layers"]:
        if not layer.operators:
            continue
        yield rf"% {layer.layer}"
        yield r"\begin{align*}"
        for operator in layer.operators:
            for name, text in operator.latex.items():
                label = f"{operator.operator}, {name}".replace("_", r"\_")
                yield rf"\text{{{label}}} &= {text} \\"
        yield r"\end{align*}"


def _data(found: "StepCosts") -> dict[str, Any]:
    layers = [
        {
            "layer": layer.layer,
            "layers": layer.layers,
            "seconds": layer.seconds,
            "saved_seconds": layer.saved,
            "floor_seconds": layer.floor,
            "operators": [
                {
                    "operator": o.operator, "formulas": o.formulas, "latex": o.latex, "amounts": o.amounts,
                    "seconds": o.seconds, "by_resource_seconds": o.by_resource, "bound_by": o.bound_by,
                    "share": found["stages"] * layer.layers * o.seconds / found["seconds"],
                }
                for o in layer.operators
            ],
        }
        for layer in found["layers"]
    ]  # fmt: skip
    return {**{name: value for name, value in found.items() if name != "layers"}, "layers": layers}
