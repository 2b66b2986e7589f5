"""The door before the replicas of a workload: one address, requests split by the plan's rates."""

from collections.abc import Iterator, Sequence

from planner.launch.servers import Target, address_of

FRONT_IMAGE = "nginx:1.28-alpine"
_WEIGHTS = 1000  # that of all requests


def front_conf(workload: str, found: Sequence[Target], port: int) -> str:
    """Return an nginx configuration; addresses are variables that the image fills in."""
    servers = "\n".join(f"    server {place} weight={weight};" for place, weight in _shares(found))
    return f"""# {workload}: requests split as planned, {", ".join(f"{t.name} {t.rate:.4g}/s" for t in found)}
upstream {workload} {{
{servers}
    keepalive 256;
}}
server {{
    listen {port};
    client_max_body_size 64m;
    location / {{
        proxy_pass http://{workload};
        proxy_http_version 1.1;
        proxy_set_header Connection "";
        proxy_buffering off;
        proxy_read_timeout 3600s;
    }}
}}
"""


def _shares(found: Sequence[Target]) -> Iterator[tuple[str, int]]:
    """Yield where requests go, and how many in a thousand, at least one."""
    total = sum(target.rate for target in found)
    for target in found:
        if target.prefill:  # its router runs beside the door
            yield f"127.0.0.1:{target.port}", max(1, round(_WEIGHTS * target.rate / total))
        for server in target.mixed:
            share = _WEIGHTS * target.rate / total / len(target.mixed)
            yield f"${{{address_of(server.head)}}}:{server.port}", max(1, round(share))
