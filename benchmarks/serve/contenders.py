"""The servers that are compared: how each is started, asked, and understood.

Each has as many threads, as many rows and its prefix cache; each decodes greedily past any end
token. Ours, vLLM and OpenVINO's stand-in are asked alike, llama.cpp by its own endpoint, which can
tell token ids.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.serve.client import Exchange
from benchmarks.serve.servers import ours
from benchmarks.serve.workload import Wanted

HERE = Path(__file__).parent
N_POSITIONS = 1024


@dataclass(frozen=True)
class Setting:
    """What all servers are given."""

    threads: int
    rows: int


@dataclass(frozen=True)
class Contender:
    """A server with a model."""

    name: str
    command: Callable[[int, Setting], list[str]]  # of a port
    path: str
    body: Callable[[Wanted, bool], dict[str, Any]]  # whether to stream
    tokens: Callable[[Any], list[int]]  # of an object of the answer

    def answered(self, exchange: Exchange) -> list[int]:
        """The tokens of a whole answer."""
        return self.tokens(exchange.json())

    def streamed_tokens(self, exchange: Exchange) -> list[int]:
        """The tokens of a stream."""
        return [token for each in exchange.events() for token in self.tokens(each.content)]

    def streamed(self, exchange: Exchange) -> list[float]:
        """When each frame with a token came."""
        return [each.at for each in exchange.events() if self.tokens(each.content)]


def our_server(name: str, folder: Path) -> Contender:
    def command(port: int, setting: Setting) -> list[str]:
        rows, threads = str(setting.rows), str(setting.threads)
        return ours(
            folder, port, "--max-rows", rows, "--threads", threads, "--prefix-cache", "512M"
        )

    def body(wanted: Wanted, stream: bool) -> dict[str, Any]:
        greedy: dict[str, Any] = {"do_sample": False, "eos_token_id": [], "return_token_ids": True}
        return {**_asked(wanted, stream), **greedy}

    return Contender(name, command, "/v1/completions", body, _token_ids)


def llama_server(name: str, program: Path, model: Path) -> Contender:
    def command(port: int, setting: Setting) -> list[str]:
        threads, rows = str(setting.threads), setting.rows
        options = ["--threads", threads, "--threads-batch", threads, "--parallel", str(rows)]
        context = ["--ctx-size", str(rows * N_POSITIONS)]
        return [
            str(program),
            "--model",
            str(model),
            "--port",
            str(port),
            *options,
            *context,
        ]

    def body(wanted: Wanted, stream: bool) -> dict[str, Any]:
        return {
            "prompt": wanted.prompt,
            "n_predict": wanted.count,
            "stream": stream,
            "temperature": 0,
            "ignore_eos": True,
            "return_tokens": True,
        }

    return Contender(name, command, "/completion", body, lambda found: list(found["tokens"]))


def openvino_server(name: str, python: Path, model: Path) -> Contender:
    def command(port: int, setting: Setting) -> list[str]:
        numbers = (port, setting.threads, setting.rows)
        return [
            str(python),
            str(HERE / "openvino_server.py"),
            str(model),
            *map(str, numbers),
        ]

    return Contender(name, command, "/v1/completions", _asked, _token_ids)


def vllm_server(name: str, program: Path, model: Path) -> Contender:
    def command(port: int, setting: Setting) -> list[str]:
        options = ["--port", str(port), "--max-num-seqs", str(setting.rows)]
        return [str(program), "serve", str(model), *options, "--dtype", "float32"]

    def body(wanted: Wanted, stream: bool) -> dict[str, Any]:
        return {
            **_asked(wanted, stream),
            "temperature": 0,
            "ignore_eos": True,
            "return_token_ids": True,
        }

    return Contender(name, command, "/v1/completions", body, _token_ids)


def _asked(wanted: Wanted, stream: bool) -> dict[str, Any]:
    return {"prompt": wanted.prompt, "max_tokens": wanted.count, "stream": stream}


def _token_ids(found: Any) -> list[int]:
    choices = found["choices"]
    return list(choices[0].get("token_ids") or []) if choices else []


def chosen(args: Any) -> list[Contender]:
    """Those whose models are named, ours first."""
    found = [
        our_server(f"gpt2onnx {name}", Path(folder))
        for name, folder in (each.split("=", 1) for each in args.ours)
    ]
    if args.llama:
        found.append(llama_server("llama-server Q8_0", *_places(args.llama)))
    if args.openvino:
        found.append(openvino_server("OpenVINO GenAI int8", *_places(args.openvino)))
    if args.vllm:
        found.append(vllm_server("vLLM fp32", *_places(args.vllm)))
    return found


def _places(given: list[str]) -> list[Path]:
    """From anywhere; links stay, since an environment's Python is one."""
    return [Path(each).absolute() for each in given]
