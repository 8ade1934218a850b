"""OpenAI's own client, unmodified."""

from __future__ import annotations

import asyncio
from typing import Any

import openai
import pytest

from gpt2onnx import Model
from tests.server.conftest import Running

PROMPT = "import os\n"
ENDLESS: dict[str, Any] = {"eos_token_id": []}


@pytest.fixture
def client(server: Running) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)


def test_a_completion(client: openai.OpenAI, model: Model) -> None:
    with client:
        answer = client.completions.create(
            model="demo", prompt=PROMPT, max_tokens=6, temperature=0, logprobs=1
        )
        expected = model.generate(PROMPT, max_new_tokens=6)
        assert answer.choices[0].text == expected.text
        assert answer.choices[0].logprobs
        assert answer.choices[0].logprobs.token_logprobs == expected.logprobs
        assert answer.usage
        assert answer.usage.completion_tokens == 6
        extra = client.completions.create(
            model="demo", prompt=PROMPT, max_tokens=6, extra_body={"num_beams": 3}
        )
        assert extra.choices[0].text == model.generate(PROMPT, max_new_tokens=6, num_beams=3).text


def test_a_stream(client: openai.OpenAI, model: Model) -> None:
    with (
        client,
        client.completions.create(
            model="demo", prompt=PROMPT, max_tokens=9, temperature=0, stream=True
        ) as stream,
    ):
        text = "".join(chunk.choices[0].text for chunk in stream)
    assert text == model.generate(PROMPT, max_new_tokens=9).text


def test_models(client: openai.OpenAI) -> None:
    with client:
        assert [each.id for each in client.models.list()] == ["demo"]
        assert client.models.retrieve("demo").owned_by == "gpt2onnx"


def test_errors(client: openai.OpenAI) -> None:
    with client:
        with pytest.raises(openai.BadRequestError) as raised:
            client.completions.create(model="demo", prompt=PROMPT, top_p=3)
        assert raised.value.param == "top_p"
        with pytest.raises(openai.NotFoundError):
            client.completions.create(model="other", prompt=PROMPT)
        with pytest.raises(openai.BadRequestError, match="no chat template"):
            client.chat.completions.create(
                model="demo", messages=[{"role": "user", "content": "x"}]
            )


def test_streams_asynchronously(server: Running, model: Model) -> None:
    async def ask(client: openai.AsyncOpenAI, seed: int) -> str:
        stream = await client.completions.create(
            model="demo", prompt=PROMPT, max_tokens=9, seed=seed, stream=True
        )
        return "".join([chunk.choices[0].text async for chunk in stream])

    async def several() -> list[str]:
        client = openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none")
        async with client:
            return await asyncio.gather(*(ask(client, seed) for seed in range(4)))

    drawn = {"do_sample": True, "top_k": 0, "max_new_tokens": 9}
    expected = [model.generate(PROMPT, seed=n, **drawn).text for n in range(4)]
    assert asyncio.run(several()) == expected


def test_a_stream_that_is_left(server: Running, eventually: Any) -> None:
    before = server.engine.stats().cancelled
    with (
        openai.OpenAI(base_url=f"{server.url}/v1", api_key="none") as client,
        client.completions.create(
            model="demo", prompt=PROMPT, max_tokens=900, stream=True, extra_body=ENDLESS
        ) as stream,
    ):
        next(iter(stream))
    eventually(lambda: server.engine.stats().cancelled == before + 1)
    assert server.engine.stats().rows == 0


def test_asynchronously(server: Running, model: Model) -> None:
    async def ask() -> list[str]:
        client = openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none")
        async with client:
            several = [
                client.completions.create(model="demo", prompt=PROMPT, max_tokens=5, seed=n)
                for n in range(6)
            ]
            return [answer.choices[0].text for answer in await asyncio.gather(*several)]

    expected = [
        model.generate(PROMPT, max_new_tokens=5, do_sample=True, top_k=0, seed=n).text
        for n in range(6)
    ]
    assert asyncio.run(ask()) == expected
