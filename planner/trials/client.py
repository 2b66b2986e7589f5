"""A load client of its own, for where no benchmark tool is installed: N clients that each have one request outstanding.

It talks the streaming completions of OpenAI's interface, and writes what ``vllm bench serve --save-result`` writes
under the same names, which ``planner import`` reads.
"""

import asyncio
import json
import random
import statistics
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from planner.constants import MILLISECONDS_PER_SECOND
from planner.errors import InputError

_VOCABULARY = (100, 20_000)  # token numbers that every tokenizer has and none treats as special
_PERCENTILES = (50, 90, 99)
_Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class LoadTest(NamedTuple):
    """What to send: ``speed`` multiplies all measured times, for engines whose clock runs faster."""

    url: str
    model: str
    clients: int
    requests: int
    isl: int
    osl: int
    seed: int = 0
    speed: float = 1.0
    timeout: float = 600.0


class _Sent(NamedTuple):
    """One answered request: times [s], and tokens as the server counts them."""

    ttft: float
    latency: float
    input_tokens: int
    output_tokens: int


async def run(test: LoadTest) -> dict[str, Any]:
    """Send all requests, and return the results.

    Raises:
        InputError: no request was answered; says why the first was not.
    """
    numbers = random.Random(test.seed)
    # Written out before the clock starts: making prompts is no part of an answer's time.
    queue = iter([_request(test, numbers.choices(range(*_VOCABULARY), k=test.isl)) for _ in range(test.requests)])
    sent: list[_Sent] = []
    failures: list[str] = []
    started = time.monotonic()
    await asyncio.gather(*(_client(test, queue, sent, failures) for _ in range(test.clients)))
    duration = time.monotonic() - started
    if not sent:
        first = failures[0] if failures else "none was sent"
        raise InputError.single(test.url, f"no request was answered: {first}")
    return results(test, sent, len(failures), duration)


async def _client(test: LoadTest, queue: Iterator[bytes], sent: list[_Sent], failures: list[str]) -> None:
    """Send requests one after the other on one connection; a new one after a failure."""
    streams: _Streams | None = None
    parts = urlsplit(test.url)
    for request in queue:
        try:
            streams = streams or await asyncio.open_connection(parts.hostname, parts.port or 80)
            sent.append(await asyncio.wait_for(_one(test, request, *streams), test.timeout))
        except (OSError, ValueError, KeyError, TimeoutError, asyncio.IncompleteReadError) as error:
            failures.append(str(error) or type(error).__name__)
            _closed(streams)
            streams = None
    _closed(streams)


def _closed(streams: _Streams | None) -> None:
    if streams is not None:
        streams[1].close()


def results(test: LoadTest, sent: Sequence[_Sent], failed: int, duration: float) -> dict[str, Any]:
    """Return what was measured under the names of ``vllm bench serve``; times [s] come in, milliseconds go out."""
    ttft = [one.ttft * test.speed * MILLISECONDS_PER_SECOND for one in sent]
    tpot = [
        (one.latency - one.ttft) / (one.output_tokens - 1) * test.speed * MILLISECONDS_PER_SECOND
        for one in sent
        if one.output_tokens > 1
    ]
    return {
        "endpoint_type": "openai",
        "model_id": test.model,
        "num_prompts": test.requests,
        "request_rate": "inf",
        "max_concurrency": test.clients,
        "duration": duration * test.speed,
        "completed": len(sent),
        "failed": failed,
        "total_input_tokens": sum(one.input_tokens for one in sent),
        "total_output_tokens": sum(one.output_tokens for one in sent),
        **_figures("ttft", ttft),
        **_figures("tpot", tpot),
    }


def _figures(name: str, values: Sequence[float]) -> dict[str, float]:
    if not values:
        return {f"mean_{name}_ms": 0.0}
    ordered = sorted(values)
    tails = {f"p{p}_{name}_ms": ordered[min(len(ordered) - 1, len(ordered) * p // 100)] for p in _PERCENTILES}
    return {f"mean_{name}_ms": statistics.fmean(values), **tails}


async def _one(test: LoadTest, request: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> _Sent:
    """Send one request and read its stream.

    Raises:
        ValueError: an answer that is none.
    """
    started = time.monotonic()
    writer.write(request)
    await writer.drain()
    await _status(reader)
    first, last, events = 0.0, 0.0, 0
    usage: dict[str, Any] = {}
    async for data in _events(reader):
        now = time.monotonic()
        usage = data.get("usage") or usage
        if data.get("choices"):
            events, first, last = events + 1, first or now, now
    if not events:
        msg = "the answer holds no token"
        raise ValueError(msg)
    tokens = int(usage.get("completion_tokens", events))
    return _Sent(first - started, last - started, int(usage.get("prompt_tokens", test.isl)), tokens)


def _request(test: LoadTest, prompt: list[int]) -> bytes:
    parts = urlsplit(test.url)
    body = json.dumps({
        "model": test.model, "prompt": prompt, "max_tokens": test.osl, "temperature": 0, "ignore_eos": True,
        "stream": True, "stream_options": {"include_usage": True},
    }).encode()  # fmt: skip
    head = f"POST {parts.path.rstrip('/')}/v1/completions HTTP/1.1\r\nHost: {parts.netloc}\r\n"
    return f"{head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


async def _status(reader: asyncio.StreamReader) -> None:
    """Read the head of an answer; anything but 200 is an error with what the server says."""
    line = (await reader.readline()).decode("latin-1")
    chunked, length = False, 0
    while header := (await reader.readline()).decode("latin-1").strip().lower():
        chunked |= header.startswith("transfer-encoding") and "chunked" in header
        if header.startswith("content-length"):
            length = int(header.partition(":")[2])
    if " 200" not in line:
        said = (await reader.read(length or 500)).decode("utf-8", "replace")
        msg = f"the server answered {line.strip() or 'nothing'}: {said[:200]}"
        raise ValueError(msg)
    if not chunked:
        msg = "the server does not stream: without a stream nobody sees the first token"
        raise ValueError(msg)


async def _events(reader: asyncio.StreamReader) -> AsyncIterator[dict[str, Any]]:
    """Yield the server-sent events of a chunked body as they come."""
    text = ""
    while size := int((await reader.readline()).strip() or b"0", 16):
        text += (await reader.readexactly(size + 2))[:-2].decode("utf-8", "replace")
        *whole, text = text.split("\n\n")
        for event in whole:
            data = event.strip().removeprefix("data:").strip()
            if data == "[DONE]":
                continue
            found = json.loads(data)
            if not isinstance(found, dict):
                msg = f"an event is no object: {data[:40]}"
                raise ValueError(msg)
            yield found
    await reader.readline()  # the end of the last chunk: the connection is free for the next request
