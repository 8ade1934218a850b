"""The same checkpoint in transformers on the same device: answers, and times."""

from __future__ import annotations

from typing import Any

from benchmarks.cuda.answers import FROM_FP32, difference, stepped
from benchmarks.cuda.bench import PROMPT, Bench
from benchmarks.cuda.times import speed, timed


def torch_model(bench: Bench, half: bool) -> Any:
    import torch
    from transformers import GPT2LMHeadModel

    torch.backends.cuda.matmul.allow_tf32 = False
    dtype = torch.float16 if half and bench.args.device == "cuda" else torch.float32
    model = GPT2LMHeadModel.from_pretrained(bench.checkpoint).to(bench.args.device, dtype)
    return model.eval()


def torch_agreement(bench: Bench, half: bool) -> dict[str, float]:
    """fp16 here against torch on the same device; the prompt and what is stepped behind it."""
    import torch

    ours = stepped(bench.open("fp16", [*bench.modes][-1]), bench.ids, PROMPT)
    with torch.inference_mode():
        ids = torch.from_numpy(bench.ids)[None].to(bench.args.device)
        theirs = torch_model(bench, half)(ids).logits[0, PROMPT - 1 :].float().cpu().numpy()
    return difference(ours, theirs, FROM_FP32["fp16"])


def torch_time(bench: Bench, batch: int, compiled: bool) -> dict[str, float]:
    """transformers' step and argmax, in half precision on CUDA; compiled, with a static cache."""
    import inspect

    import torch
    from torch._dynamo.utils import counters
    from transformers import DynamicCache, StaticCache

    model, room = torch_model(bench, half=True), 32 + bench.steps + 8
    ids = torch.from_numpy(bench.ids[:32])[None].repeat(batch, 1).to(model.device)
    past: Any = DynamicCache()
    forward: Any = model
    if compiled:
        torch.compiler.reset()
        counters.clear()
        past = StaticCache(config=model.config, max_cache_len=room)
        forward = torch.compile(model, mode="reduce-overhead", fullgraph=True, dynamic=False)
    # transformers 4 is told where a static cache goes on; 5 keeps count itself.
    told = "cache_position" in inspect.signature(model.forward).parameters
    place = torch.arange(32, device=model.device)

    def step() -> None:
        nonlocal newest, place
        place = place[-1:] + 1
        where = {"cache_position": place} if told else {}
        logits = forward(newest, past_key_values=past, **where).logits
        newest = logits[:, -1:].argmax(-1).clone()  # a replay overwrites what it gave
        newest.cpu()  # as a loop that may stop has to

    with torch.inference_mode():
        where = {"cache_position": place} if told else {}
        first = model(ids, past_key_values=past, use_cache=True, **where)
        newest = first.logits[:, -1:].argmax(-1)
        times = timed(step, bench.steps)
    # torch leaves CUDA graphs out without a word, but counts it.
    skips = {"cudagraph_skips": counters["inductor"]["cudagraph_skips"]} if compiled else {}
    return speed(times, batch) | skips
