"""An OpenAI-compatible server that makes no tokens, only time pass: completions, chat, models, health and metrics.

Every request waits and streams as a request of a closed loop would with as many requests in the engine's hands as there
are. ``speed`` divides all times; a client that measures multiplies them again.
"""

import asyncio
import json
import time
from typing import Any, NamedTuple

from planner.errors import InputError
from planner.fake_engine import http
from planner.fake_engine.pace import Curve, Pace

FAULTS = ("none", "hang", "garbage", "too_fast")
_TICK = 0.05  # seconds between two events of a stream: a client reads the pace off its end
_TOO_FAST = 50.0
_WORD = "word "


class Work(NamedTuple):
    """A request as far as it matters: its lengths [token], whether it streams, its protocol, and a count at the end."""

    isl: int
    osl: int
    stream: bool
    chat: bool
    usage: bool = True


class FakeEngine:
    """The state of a server: requests in its hands, and counters."""

    def __init__(self, pace: Pace, speed: float, fault: str = "none") -> None:
        self.pace = pace
        self.speed = speed * (_TOO_FAST if fault == "too_fast" else 1.0)
        self.fault = fault
        self.in_flight = 0
        self.counters = {"requests": 0, "prompt_tokens": 0, "generation_tokens": 0}

    async def serve(self, host: str, port: int) -> asyncio.Server:
        """Listen on a port; 0 takes any that is free."""
        return await asyncio.start_server(self._connection, host, port)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async for request in http.requests(reader):
                await self._respond(request, writer)
        except (ConnectionError, asyncio.IncompleteReadError, ValueError):
            pass  # the client went away, or talks something else
        finally:
            writer.close()

    async def _respond(self, request: http.Request, writer: asyncio.StreamWriter) -> None:
        model = self.pace.replica.model
        if request.path == "/health":
            await http.answer(writer, "200 OK", "")
        elif request.path == "/v1/models":
            await http.answer(
                writer, "200 OK", json.dumps({"object": "list", "data": [{"id": model, "object": "model"}]})
            )
        elif request.path == "/metrics":
            await http.answer(writer, "200 OK", self._metrics(), "text/plain; version=0.0.4")
        elif request.method == "POST" and request.path in ("/v1/completions", "/v1/chat/completions"):
            await self._complete(request, writer)
        else:
            await http.answer(writer, "404 Not Found", _error(f"there is no {request.path} here"))

    async def _complete(self, request: http.Request, writer: asyncio.StreamWriter) -> None:
        try:
            work = work_of(request)
            curve = self.pace.curve(work.isl, work.osl)
        except InputError as error:
            await http.answer(writer, "400 Bad Request", _error(str(error)))
            return
        self.in_flight += 1
        try:
            await self._answer(work, curve, writer)
        finally:
            self.in_flight -= 1
        self.counters["requests"] += 1
        self.counters["prompt_tokens"] += work.isl
        self.counters["generation_tokens"] += work.osl

    async def _answer(self, work: Work, curve: Curve, writer: asyncio.StreamWriter) -> None:
        if self.fault == "hang":
            await asyncio.Event().wait()
        if work.stream:
            await http.start_stream(writer)
        await self._first_token(curve)
        if work.stream:
            await http.event(writer, self._event(work, 1))
        done = 1.0
        async for so_far in self._decode(curve, work.osl - 1):
            if work.stream:
                await http.event(writer, self._event(work, int(1 + so_far) - int(done)))
            done = 1 + so_far
        usage = {"prompt_tokens": work.isl, "completion_tokens": work.osl, "total_tokens": work.isl + work.osl}
        if work.stream:
            if work.usage:  # a chunk without choices, which clients that did not ask for it trip over
                await http.event(writer, self._named(work, []) | {"usage": usage})
            await http.end_stream(writer)
        else:
            await http.answer(writer, "200 OK", json.dumps(self._whole(work) | {"usage": usage}))

    async def _first_token(self, curve: Curve) -> None:
        """Wait for as long as a first token takes with the requests that have come by then."""
        started = time.monotonic()
        while (left := curve.at(self.in_flight)[0] / self.speed - (time.monotonic() - started)) > 0:
            await asyncio.sleep(left)

    async def _decode(self, curve: Curve, tokens: int) -> Any:
        """Yield the tokens made so far, every now and then, at the pace of the moment."""
        made, before = 0.0, time.monotonic()
        while made < tokens:
            each = curve.at(self.in_flight)[1] / self.speed
            await asyncio.sleep(min(_TICK, (tokens - made) * each))
            now = time.monotonic()
            made, before = min(made + (now - before) / each, float(tokens)), now
            yield made

    def _event(self, work: Work, tokens: int) -> Any:
        if self.fault == "garbage":
            return "{not json"
        text = _WORD * tokens
        choice = {"index": 0, "delta": {"content": text}} if work.chat else {"index": 0, "text": text}
        return self._named(work, [choice])

    def _named(self, work: Work, choices: list[Any]) -> dict[str, Any]:
        """Return what every answer says of itself: clients tell chunks by ``object``."""
        kind = ("chat.completion.chunk" if work.stream else "chat.completion") if work.chat else "text_completion"
        first = {"id": f"fake-{self.counters['requests']}", "object": kind, "created": int(time.time())}
        return first | {"model": self.pace.replica.model, "choices": choices}

    def _whole(self, work: Work) -> dict[str, Any]:
        text = _WORD * work.osl
        choice: dict[str, Any] = {"index": 0, "finish_reason": "length"}
        choice |= {"message": {"role": "assistant", "content": text}} if work.chat else {"text": text}
        return self._named(work, [choice])

    def _metrics(self) -> str:
        """Return counters as vLLM names them."""
        label = f'{{model_name="{self.pace.replica.model}"}}'
        n, prompt, output = self.counters["requests"], *(self.counters[f"{k}_tokens"] for k in ("prompt", "generation"))
        figures = {
            "vllm:num_requests_running": self.in_flight,
            "vllm:request_success_total": n,
            "vllm:prompt_tokens_total": prompt,
            "vllm:generation_tokens_total": output,
        }
        return "".join(f"{name}{label} {value}\n" for name, value in figures.items())


def work_of(request: http.Request) -> Work:
    """Read a request for a completion.

    Raises:
        InputError: it is no JSON object with a prompt.
    """
    try:
        data = json.loads(request.body)
        chat = request.path.endswith("/chat/completions")
        prompt = " ".join(_text(m["content"]) for m in data["messages"]) if chat else data["prompt"]
        osl = int(data.get("max_tokens") or data.get("max_completion_tokens") or 16)
        usage = bool((data.get("stream_options") or {}).get("include_usage"))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise InputError.single("", "expected a JSON object with a prompt or messages") from None
    isl = len(prompt) if isinstance(prompt, list) else len(prompt.split())
    return Work(max(isl, 1), max(osl, 2), bool(data.get("stream")), chat, usage)


def _text(content: Any) -> str:
    """Return the text of a message, which may come in parts."""
    return " ".join(str(part.get("text", "")) for part in content) if isinstance(content, list) else str(content)


def _error(message: str) -> str:
    return json.dumps({"error": {"message": message}})
