"""The door before the replicas of a workload: one address, requests split by the plan's rates."""

from collections.abc import Iterator, Sequence

from planner.launch.servers import Target, address_of

FRONT_IMAGE = "nginx:1.28-alpine"
_WEIGHTS = 1000  # that of all requests


def front_conf(workload: str, found: Sequence[Target], port: int) -> str:
    """Return an nginx configuration; addresses are variables that the image fills in."""
    return front_lines(workload, list(_places(found)), port)


def front_lines(workload: str, places: Sequence[tuple[str, float]], port: int) -> str:
    """Return an nginx configuration that splits requests over places by their rates [request/s]."""
    total = sum(rate for _, rate in places)
    shares = [(place, max(1, round(_WEIGHTS * rate / total))) for place, rate in places]
    servers = "\n".join(f"    server {place} weight={weight};" for place, weight in shares)
    return f"""# requests split as planned, in thousandths
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


def _places(found: Sequence[Target]) -> Iterator[tuple[str, float]]:
    """Yield where requests go, and how many [request/s]; a pair's router runs beside the door."""
    for target in found:
        if target.prefill:
            yield f"127.0.0.1:{target.port}", target.rate
        for server in target.mixed:
            yield f"${{{address_of(server.head)}}}:{server.port}", target.rate / len(target.mixed)
