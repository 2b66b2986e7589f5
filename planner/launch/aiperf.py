"""AIPerf: a benchmark for engines that bring none whose results are read here."""

from planner.launch.definition import checked, definition, flags
from planner.launch.engine import Load, tokenizer

IMAGE = "python:3.12-slim"
RESULT = "{name}/profile_export_aiperf.json"


def bench(load: Load) -> list[str]:
    """Return the command, installed from its package when its container starts."""
    how = (
        {"request-rate": round(load.rate, 4)}
        if load.rate
        else {"concurrency": load.clients, "warmup-request-count": load.clients}
    )
    options = checked(
        "aiperf",
        "bench",
        {
            "model": load.model, "url": load.url, "endpoint-type": "completions", "streaming": True, **how,
            "isl": load.input_tokens, "isl-stddev": 0, "osl": load.output_tokens, "osl-stddev": 0,
            "request-count": load.requests, "extra-inputs": "ignore_eos:true",
            "artifact-dir": load.result.partition("/")[0], **tokenizer(load),
            **({"tokenizer-trust-remote-code": True} if load.trusted else {}),
        },
    )  # fmt: skip
    words = " ".join(["aiperf profile", *flags(options)])
    return ["sh", "-c", f"pip install aiperf=={definition('aiperf').version} && {words}"]
