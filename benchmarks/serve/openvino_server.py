"""OpenVINO GenAI's continuous batching behind HTTP, as our server's clients ask for it.

    python openvino_server.py MODEL PORT THREADS ROWS

Needs openvino_genai alone. POST /v1/completions takes `prompt` (token ids), `max_tokens` and
`stream`, decodes greedily past any end token, and answers with `token_ids`. One thread steps the
pipeline; what a step gave all requests goes to the event loop at once, so that little is added.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import openvino
import openvino_genai as genai

Deliver = Callable[[list[int], bool], None]


class Pipeline:
    """The pipeline and its thread."""

    def __init__(
        self, model: str, threads: int, rows: int, loop: asyncio.AbstractEventLoop
    ) -> None:
        scheduler = genai.SchedulerConfig()
        scheduler.max_num_seqs = rows
        scheduler.cache_size = 2  # GB, more than all rows can fill
        scheduler.enable_prefix_caching = True
        properties = {"INFERENCE_NUM_THREADS": threads}
        self._pipeline = genai.ContinuousBatchingPipeline(model, scheduler, "CPU", properties)
        self._loop, self._number = loop, 0
        self._running: dict[int, tuple[Any, Deliver, int]] = {}
        self._added: list[tuple[list[int], int, Deliver]] = []
        self._changed = threading.Condition()
        threading.Thread(target=self._work, daemon=True).start()

    def add(self, prompt: list[int], count: int, deliver: Deliver) -> None:
        """`deliver` is told tokens, and whether they are the last, on the event loop."""
        with self._changed:
            self._added.append((prompt, count, deliver))
            self._changed.notify()

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._added or self._running)
                added, self._added = self._added, []
            for each in added:
                self._begin(*each)
            self._pipeline.step()
            self._loop.call_soon_threadsafe(_tell, self._news())

    def _begin(self, prompt: list[int], count: int, deliver: Deliver) -> None:
        config = genai.GenerationConfig()
        config.max_new_tokens, config.ignore_eos, config.do_sample = count, True, False
        self._number += 1
        ids = openvino.Tensor(np.array([prompt], np.int64))
        handle = self._pipeline.add_request(self._number, ids, config)
        self._running[self._number] = (handle, deliver, count)

    def _news(self) -> list[tuple[Deliver, list[int], bool]]:
        """What the step gave."""
        news = []
        for number, (handle, deliver, left) in list(self._running.items()):
            tokens: list[int] = []
            while handle.can_read():
                (output,) = handle.read().values()
                tokens += output.generated_ids
            left -= len(tokens)
            if tokens:
                news.append((deliver, tokens, left <= 0))
            if left <= 0:
                del self._running[number]
            else:
                self._running[number] = (handle, deliver, left)
        return news


def _tell(news: list[tuple[Deliver, list[int], bool]]) -> None:
    for deliver, tokens, is_last in news:
        deliver(tokens, is_last)


class Connection(asyncio.Protocol):
    """One request, and its answer."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline, self._data, self._tokens = pipeline, b"", list[int]()
        self._transport: Any = None
        self._streams = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._data += data
        head, end, body = self._data.partition(b"\r\n\r\n")
        lines = head.decode().lower().split("\r\n")
        lengths = [int(line[15:]) for line in lines if line.startswith("content-length:")]
        if not end or len(body) < sum(lengths):
            return
        if lines[0].startswith("get"):
            self._whole({"status": "ok"})
            return
        asked = json.loads(body)
        self._streams = bool(asked.get("stream"))
        if self._streams:
            self._transport.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n"
                b"Transfer-Encoding: chunked\r\n\r\n"
            )
        self._pipeline.add(asked["prompt"], asked["max_tokens"], self._deliver)

    def _deliver(self, tokens: list[int], is_last: bool) -> None:
        self._tokens += tokens
        if self._streams:
            self._frame(json.dumps(_answer(tokens)))
            if is_last:
                self._frame("[DONE]")
                self._transport.write(b"0\r\n\r\n")
                self._transport.close()
        elif is_last:
            self._whole(_answer(self._tokens))

    def _frame(self, content: str) -> None:
        frame = f"data: {content}\n\n".encode()
        self._transport.write(b"%x\r\n%b\r\n" % (len(frame), frame))

    def _whole(self, content: Any) -> None:
        body = json.dumps(content).encode()
        head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n"
        self._transport.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        self._transport.close()


def _answer(tokens: list[int]) -> dict[str, Any]:
    return {"choices": [{"index": 0, "token_ids": tokens}]}


async def main(model: str, port: int, threads: int, rows: int) -> None:
    loop = asyncio.get_running_loop()
    pipeline = Pipeline(model, threads, rows, loop)
    server = await loop.create_server(lambda: Connection(pipeline), "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], *map(int, sys.argv[2:5])))
