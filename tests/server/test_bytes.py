"""A model of single bytes: streams of any byte sequence, cut anywhere, join to the whole text."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import gpt2onnx
from tests.checkpoints import make_checkpoint
from tests.server.conftest import Running, serving

PATH = "/v1/completions"
BODY = {"prompt": "é", "max_tokens": 40, "temperature": 1.5, "eos_token_id": []}


@pytest.fixture(scope="module")
def of_bytes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("bytes")
    gpt2onnx.export(make_checkpoint(folder / "checkpoint"), folder / "model", verify=False)
    with serving({"bytes": gpt2onnx.load(folder / "model", threads=1)}, max_rows=8) as running:
        yield running


def streamed(server: Running, body: dict[str, object]) -> list[str]:
    frames = server.frames(PATH, body)
    assert frames[-1] == "[DONE]"
    return [frame["choices"][0]["text"] for frame in frames[:-1]]


@pytest.mark.parametrize("seed", range(12))
def test_deltas_join_to_the_text(of_bytes: Running, seed: int) -> None:
    """No replacement character before its time: each delta is what stands there at the end."""
    body = {**BODY, "seed": seed, "return_token_ids": True}
    (choice,) = of_bytes.ask(PATH, body)[1]["choices"]
    model = of_bytes.models[0].model
    names = [model.tokenizer.id_to_token(token) for token in choice["token_ids"]]
    assert len(names) == 40
    written = model.tokenizer.decode(choice["token_ids"], skip_special_tokens=True)
    assert choice["text"] == written
    assert "".join(streamed(of_bytes, {**BODY, "seed": seed})) == written


@pytest.mark.parametrize("seed", range(4))
def test_stops_inside_and_between_characters(of_bytes: Running, seed: int) -> None:
    """Tokens are halves of é and ü, so that stop strings end within what is held back."""
    model = of_bytes.models[0].model
    halves = {str(token): 1000 for token in model.token_ids("éü").tolist()}
    body = {**BODY, "seed": seed, "logit_bias": halves, "temperature": 9}
    text = of_bytes.ask(PATH, body)[1]["choices"][0]["text"]
    found = {text[start : start + size] for start in range(len(text)) for size in (1, 2, 3)}
    stops = sorted(each for each in found if "\ufffd" not in each)
    assert stops
    for stop in stops:
        expected = text[: text.index(stop)]
        (whole,) = of_bytes.ask(PATH, {**body, "stop": [stop]})[1]["choices"]
        assert (whole["text"], whole["finish_reason"]) == (expected, "stop"), stop
        assert "".join(streamed(of_bytes, {**body, "stop": stop})) == expected, stop
