"""As much of HTTP/1.1 as a fake engine needs: requests with a body, answers whole or in chunks."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

_LONGEST = 64 * 1024 * 1024  # byte of a body: prompts are lists of token numbers


class Request(NamedTuple):
    """What a client asked for."""

    method: str
    path: str
    body: bytes


async def requests(reader: asyncio.StreamReader) -> AsyncIterator[Request]:
    """Yield the requests of a connection until the client closes it or sends what is none."""
    while line := await reader.readline():
        parts = line.decode("latin-1").split()
        if len(parts) != 3:
            return
        length = 0
        while (header := await reader.readline()).strip():
            name, _, value = header.decode("latin-1").partition(":")
            if name.strip().lower() == "content-length" and value.strip().isdigit():
                length = int(value)
        if length > _LONGEST:
            return
        yield Request(parts[0], parts[1].partition("?")[0], await reader.readexactly(length))


async def answer(writer: asyncio.StreamWriter, status: str, body: str, kind: str = "application/json") -> None:
    """Send a whole answer."""
    data = body.encode()
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(data)}\r\n\r\n"
    writer.write(head.encode() + data)
    await writer.drain()


async def start_stream(writer: asyncio.StreamWriter) -> None:
    """Begin a stream of server-sent events."""
    head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    writer.write(head.encode())
    await writer.drain()


async def event(writer: asyncio.StreamWriter, data: Any) -> None:
    """Send one event."""
    text = data if isinstance(data, str) else json.dumps(data, separators=(",", ":"))
    chunk = f"data: {text}\n\n".encode()
    writer.write(f"{len(chunk):x}\r\n".encode() + chunk + b"\r\n")
    await writer.drain()


async def end_stream(writer: asyncio.StreamWriter) -> None:
    """End a stream of events."""
    await event(writer, "[DONE]")
    writer.write(b"0\r\n\r\n")
    await writer.drain()
