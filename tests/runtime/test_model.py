"""Model: the shapes of results, streams, defaults, and what is refused before anything runs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gpt2onnx
from gpt2onnx import Generation, Model
from gpt2onnx.errors import ModelFolderError, ParameterError, PromptError, TokenRangeError
from gpt2onnx.runtime.open_model import open_decoder
from gpt2onnx.runtime.ort.provider import CPU
from gpt2onnx.runtime.ort.session import Session, TensorSpec
from tests.checkpoints import END_OF_TEXT_ID
from tests.raising import raises

SAMPLING = {"do_sample": True, "seed": 7, "max_new_tokens": 12}


def byte_ids(model: Model, text: str) -> list[int]:
    ids: list[int] = model.tokenizer.encode(text).ids
    return ids


def writes(model: Model, text: str) -> dict[str, Any]:
    """Parameters that make a model write exactly this after any prompt of one token, then end."""
    ids = [*byte_ids(model, text), END_OF_TEXT_ID]

    def allowed(sequence: int, history: Any) -> list[int]:
        return [ids[len(history) - 1]]

    return {"prefix_allowed_tokens_fn": allowed, "max_new_tokens": len(ids)}


# --- shapes of results ---------------------------------------------------------------------------


def test_one_prompt_gives_one_generation(model: Model) -> None:
    result = model.generate("ab", max_new_tokens=4, eos_token_id=None)
    assert isinstance(result, Generation)
    assert result.prompt_token_ids == byte_ids(model, "ab")
    assert len(result.token_ids) == len(result.logprobs) == len(result.alternatives) == 4
    assert result.text == model.tokenizer.decode(result.token_ids)
    assert result.finish_reason == "length"
    assert all(isinstance(token, int) for token in result.prompt_token_ids + result.token_ids)
    assert all(isinstance(logprob, float) for logprob in result.logprobs)
    json.dumps(vars(result))


def test_several_prompts_give_a_list(model: Model) -> None:
    prompts = ["ab", "a longer prompt", "", [1, 2, 3]]
    results = model.generate(prompts, max_new_tokens=6)
    assert results == [model.generate(prompt, max_new_tokens=6) for prompt in prompts]
    assert model.generate(["ab"], max_new_tokens=6) == results[:1]
    assert model.generate([], max_new_tokens=6) == []


def test_an_array_is_a_batch_by_its_dimensions(model: Model) -> None:
    ids = np.arange(6).reshape(2, 3)
    both = model.generate(ids, max_new_tokens=3)
    assert both == [model.generate(row, max_new_tokens=3) for row in ids]
    assert both[0].prompt_token_ids == [0, 1, 2]


def test_several_sequences_give_a_list_a_prompt(model: Model) -> None:
    three = model.generate("ab", num_return_sequences=3, **SAMPLING)
    assert len({tuple(g.token_ids) for g in three}) == 3  # type: ignore[attr-defined]
    two_prompts = model.generate(["ab", "c"], num_return_sequences=3, **SAMPLING)
    assert [len(group) for group in two_prompts] == [3, 3]  # type: ignore[arg-type]
    assert two_prompts[0] == three
    assert model.generate("ab", **SAMPLING) == three[0]  # type: ignore[index]
    one_each = model.generate(["ab", "c"], num_return_sequences=1, **SAMPLING)
    assert [type(g) for g in one_each] == [Generation, Generation]


def test_a_seed_gives_the_same_alone_and_in_a_batch(model: Model) -> None:
    prompts = ["one", "two, and longer", "three"]
    alone = [model.generate(prompt, **SAMPLING) for prompt in prompts]
    assert model.generate(prompts, **SAMPLING) == alone
    assert model.generate("one", **{**SAMPLING, "seed": 8}) != alone[0]


def test_without_a_seed_every_call_differs(model: Model) -> None:
    without = {**SAMPLING, "seed": None}
    assert model.generate("a", **without).token_ids != model.generate("a", **without).token_ids


def test_an_empty_prompt_starts_from_bos(model: Model) -> None:
    assert model.generate("").prompt_token_ids == [END_OF_TEXT_ID]


# --- streams -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "stops", "shown"),
    [
        ("plain words", None, "plain words"),
        ("naïve café — 你好 🧑‍🚀!", None, "naïve café — 你好 🧑‍🚀!"),
        ("one STOP two", "STOP", "one "),
        ("one ST", "STOP", "one ST"),
        ("aé🙂é", ["é", "🙂"], "a"),
        ("你好", "好", "你"),
        ("abcdef", ["def", "cd"], "ab"),
    ],
)
def test_pieces_joined_are_the_text(model: Model, text: str, stops: Any, shown: str) -> None:
    parameters = {**writes(model, text), "stop_strings": stops}
    whole = model.generate("a", **parameters)
    tokens = list(model.stream("a", **parameters))
    assert "".join(token.text for token in tokens) == whole.text == shown
    assert [token.id for token in tokens] == whole.token_ids
    assert [token.logprob for token in tokens] == whole.logprobs
    assert tokens[-1].finish_reason == whole.finish_reason == ("eos" if shown == text else "stop")
    assert all(token.finish_reason is None for token in tokens[:-1])


def test_stray_bytes_are_shown_at_the_end(model: Model) -> None:
    """A character that the last token leaves unfinished."""
    parameters = {**writes(model, "aé"), "max_new_tokens": 2}
    tokens = list(model.stream("x", **parameters))
    assert [token.text for token in tokens] == ["a", "\ufffd"]
    assert model.generate("x", **parameters).text == "a\ufffd"


@pytest.mark.parametrize("seed", range(5))
def test_sampled_pieces_joined_are_the_text(model: Model, seed: int) -> None:
    sampling = {"do_sample": True, "seed": seed, "max_new_tokens": 30, "top_k": 0}
    whole = model.generate("abc", **sampling)
    tokens = list(model.stream("abc", **sampling))
    assert "".join(token.text for token in tokens) == whole.text
    assert [token.id for token in tokens] == whole.token_ids


@pytest.mark.parametrize(
    ("prompt", "parameters", "error"),
    [
        ("a", {"temperature": -1, "do_sample": True}, ParameterError),
        ("a", {"no_such_parameter": 1}, ParameterError),
        ("a", {"suppress_tokens": [257]}, ParameterError),
        ("a long prompt", {"max_length": 3}, ParameterError),
        ("ab", {"forced_bos_token_id": 3}, ParameterError),
        ("a", {"top_logprobs": 258}, ParameterError),
        ("a", {"top_logprobs": -1}, ParameterError),
        ("a", {"top_logprobs": 1.5}, ParameterError),
        ("a", {"num_return_sequences": 2}, ParameterError),
        (["a"], {"num_beams": 2}, ParameterError),
        ("a", {"best_of": 2, "do_sample": True}, ParameterError),
        ("a", {"prompt_logprobs": True}, ParameterError),
        (["a", [300]], {}, TokenRangeError),
        ([300], {}, TokenRangeError),
        (None, {}, PromptError),
        ("x" * 65, {}, PromptError),
    ],
)
def test_a_stream_refuses_by_the_call(
    model: Model, prompt: Any, parameters: Any, error: type[Exception]
) -> None:
    with pytest.raises(error):
        model.stream(prompt, **parameters)


def test_a_stream_that_is_never_read_takes_no_memory(model: Model) -> None:
    model.stream("abc")
    assert model.decoder.cache.arena is None


@pytest.mark.parametrize("prompt_lookup_num_tokens", [None, 4])
@pytest.mark.parametrize("num_return_sequences", [1, 2])
def test_a_stream_of_several_says_whose_each_token_is(
    model: Model, num_return_sequences: int, prompt_lookup_num_tokens: int | None
) -> None:
    prompts = ["ab", "a longer prompt", ""]
    parameters = {
        **SAMPLING,
        "num_return_sequences": num_return_sequences,
        "prompt_lookup_num_tokens": prompt_lookup_num_tokens,
    }
    tokens = list(model.stream(prompts, **parameters))
    groups: list[Any] = model.generate(prompts, **parameters)
    whole = groups if num_return_sequences == 1 else [each for group in groups for each in group]
    for sequence, written in enumerate(whole):
        mine = [token for token in tokens if token.sequence == sequence]
        assert [token.id for token in mine] == written.token_ids
        assert "".join(token.text for token in mine) == written.text
        assert mine[-1].finish_reason == written.finish_reason
        assert mine[-1].speculation == written.speculation
    assert len(tokens) == sum(len(written.token_ids) for written in whole)


def test_a_stream_of_several_goes_step_by_step(model: Model) -> None:
    stream = model.stream(["abc", "d"], max_new_tokens=3, eos_token_id=None)
    assert [token.sequence for token in stream] == [0, 1] * 3
    assert {token.sequence for token in model.stream("abc", max_new_tokens=3)} == {0}
    assert list(model.stream([])) == []


@pytest.mark.parametrize("read", range(1, 7))
@pytest.mark.parametrize("lookup", [None, 4])
def test_closing_a_stream_of_several_frees_every_row(
    model: Model, read: int, lookup: int | None
) -> None:
    parameters = {**SAMPLING, "num_return_sequences": 2, "eos_token_id": None}
    stream = model.stream(["abc", "d"], prompt_lookup_num_tokens=lookup, **parameters)
    for _ in range(read):
        next(stream)
    assert len(model.decoder.cache.rows) == 4
    stream.close()
    assert model.decoder.cache.rows == []


def test_closing_a_stream_frees_its_row(model: Model) -> None:
    stream = model.stream("abc", eos_token_id=None)
    next(stream)
    assert len(model.decoder.cache.rows) == 1
    stream.close()
    assert model.decoder.cache.rows == []


def test_leaving_a_stream_frees_its_row(model: Model) -> None:
    for token in model.stream("abc", eos_token_id=None):
        if token.id is not None:
            break
    assert model.decoder.cache.rows == []


def test_two_streams_at_once(model: Model) -> None:
    settings = {"max_new_tokens": 20, "eos_token_id": None}
    alone = [list(model.stream(prompt, **settings)) for prompt in ("abc", "another")]
    first, second = (model.stream(prompt, **settings) for prompt in ("abc", "another"))
    both = list(zip(first, second, strict=True))
    assert [[pair[n] for pair in both] for n in (0, 1)] == alone


def test_generate_while_a_stream_is_open(model: Model) -> None:
    settings = {"max_new_tokens": 10, "eos_token_id": None}
    whole = list(model.stream("abc", **settings))
    stream = model.stream("abc", **settings)
    begun = [next(stream) for _ in range(3)]
    assert len(model.generate(["x", "y" * 40], **settings)) == 2
    assert begun + list(stream) == whole


def test_interrupting_generate_frees_every_row(model: Model, monkeypatch: Any) -> None:
    calls = iter(range(3))
    read = model.decoder.read

    def interrupted(reads: Any) -> Any:
        if next(calls, None) is None:
            raise KeyboardInterrupt
        return read(reads)

    monkeypatch.setattr(model.decoder, "read", interrupted)
    with pytest.raises(KeyboardInterrupt):
        model.generate(["abc", "d"], eos_token_id=None)
    assert model.decoder.cache.rows == []


def test_a_sequence_that_is_stopped_keeps_its_text(model: Model) -> None:
    parameters = {**SAMPLING, "num_return_sequences": 2, "eos_token_id": None}
    whole: Any = model.generate(["ab", "c"], **parameters)
    stopped: Any = model.generate(
        ["ab", "c"], stop_fn=lambda index, history: index == 2 and len(history) > 5, **parameters
    )
    assert stopped[0] == whole[0]
    assert stopped[1][1] == whole[1][1]
    assert stopped[1][0].finish_reason == "stopped"
    assert stopped[1][0].token_ids == whole[1][0].token_ids[:5]
    assert stopped[1][0].text == model.tokenizer.decode(stopped[1][0].token_ids)


# --- alternatives --------------------------------------------------------------------------------


def test_alternatives(model: Model) -> None:
    result = model.generate("abc", top_logprobs=3, max_new_tokens=5)
    for token, logprob, alternatives in zip(
        result.token_ids, result.logprobs, result.alternatives, strict=True
    ):
        assert alternatives[0].id == token  # greedy
        assert alternatives[0].logprob == pytest.approx(logprob, abs=1e-6)
        assert [a.logprob for a in alternatives] == sorted(
            (a.logprob for a in alternatives), reverse=True
        )
        assert all(
            a.text == model.tokenizer.decode([a.id], skip_special_tokens=False)
            for a in alternatives
        )
    streamed = list(model.stream("abc", top_logprobs=3, max_new_tokens=5))
    assert [token.alternatives for token in streamed] == result.alternatives


def test_no_alternatives_unless_asked(model: Model) -> None:
    assert model.generate("abc", max_new_tokens=2).alternatives == [(), ()]


@pytest.mark.parametrize("lookup", [None, 2])
def test_entropies_are_of_the_models_own_probabilities(model: Model, lookup: int | None) -> None:
    given = {**SAMPLING, "temperature": 0.5, "prompt_lookup_num_tokens": lookup}
    tokens = list(model.stream("ababab", top_logprobs=257, entropies=True, **given))
    for token in tokens:
        logprobs = np.array([other.logprob for other in token.alternatives])
        assert token.entropy == pytest.approx(-(np.exp(logprobs) * logprobs).sum(), abs=1e-4)
    assert {token.entropy for token in model.stream("ababab", **given)} == {None}


def test_all_alternatives(model: Model) -> None:
    (alternatives,) = model.generate("a", top_logprobs=257, max_new_tokens=1).alternatives
    assert sorted(a.id for a in alternatives) == list(range(257))
    assert sum(np.exp([a.logprob for a in alternatives])) == pytest.approx(1, abs=1e-5)
    for wrong in (258, -1, True, "3", 1.0):
        with raises(ParameterError, parameters={"top_logprobs": wrong}):
            model.generate("a", top_logprobs=wrong)  # type: ignore[call-overload]
    (alternatives,) = model.generate("a", top_logprobs=np.int64(2), max_new_tokens=1).alternatives
    assert len(alternatives) == 2
    with raises(ParameterError, parameters={"entropies": "yes"}):
        model.stream("a", entropies="yes")  # type: ignore[arg-type]


# --- defaults and names --------------------------------------------------------------------------


@pytest.fixture
def reopened(models: Callable[[str], Path], tmp_path: Path) -> Callable[..., Model]:
    """The model with other settings: of config.json, and all of generation_config.json."""
    folder = shutil.copytree(models("fp32"), tmp_path / "model")
    (folder / "manifest.json").unlink()

    def reopen(config: dict[str, Any], generation_config: dict[str, Any] | None) -> Model:
        settings = json.loads((folder / "config.json").read_text()) | config
        kept = {name: value for name, value in settings.items() if value != "missing"}
        (folder / "config.json").write_text(json.dumps(kept))
        (folder / "generation_config.json").unlink(missing_ok=True)
        if generation_config is not None:
            (folder / "generation_config.json").write_text(json.dumps(generation_config))
        return gpt2onnx.load(folder, threads=1)

    return reopen


def test_generation_config_is_honoured(model: Model, reopened: Callable[..., Model]) -> None:
    defaults = {
        "do_sample": True,
        "temperature": 0.5,
        "top_k": 5,
        "max_new_tokens": 9,
        "repetition_penalty": 1.5,
        "eos_token_id": [3, 4],
    }
    mine = reopened({}, defaults)
    assert mine.generate("abc", seed=1) == model.generate("abc", seed=1, **defaults)
    greedy = mine.generate("abc", do_sample=False)
    assert greedy == model.generate(
        "abc", max_new_tokens=9, repetition_penalty=1.5, eos_token_id=[3, 4]
    )
    assert mine.params({"eos_token_id": None}).eos_token_ids == ()


@pytest.mark.parametrize(
    ("config", "generation_config", "eos"),
    [
        ({"eos_token_id": 11}, {"eos_token_id": 12}, (12,)),
        ({"eos_token_id": 11}, {}, (11,)),
        ({"eos_token_id": 11}, None, (11,)),
        ({"eos_token_id": [11, 13]}, None, (11, 13)),
        ({"eos_token_id": None}, None, ()),
        ({"eos_token_id": "missing"}, None, (50256,)),
    ],
)
def test_the_end_token(
    reopened: Callable[..., Model], config: Any, generation_config: Any, eos: tuple[int, ...]
) -> None:
    assert reopened(config, generation_config).params({}).eos_token_ids == eos


@pytest.mark.parametrize(
    ("config", "generation_config", "bos"),
    [
        ({"bos_token_id": 11}, {"bos_token_id": 12}, 12),
        ({"bos_token_id": 11}, {}, 11),
        ({"bos_token_id": 11}, None, 11),
    ],
)
def test_the_start_token(
    reopened: Callable[..., Model], config: Any, generation_config: Any, bos: int
) -> None:
    opened = reopened(config, generation_config)
    assert opened.generate("", max_new_tokens=1).prompt_token_ids == [bos]


def test_a_model_without_a_start_token(reopened: Callable[..., Model]) -> None:
    for bos in (None, "missing"):  # GPT-2's 50256 isn't in this vocabulary
        with pytest.raises(PromptError, match="BOS"):
            reopened({"bos_token_id": bos}, None).generate("")


def test_unknown_parameters(model: Model) -> None:
    with raises(ParameterError, name="temprature"):
        model.generate("a", temprature=1.0)


def test_an_unsupported_generation_config(reopened: Callable[..., Model]) -> None:
    with raises(ParameterError, name="dola_layers"):
        reopened({}, {"dola_layers": "low"})


def test_repr(model: Model) -> None:
    assert repr(model) == f"Model({str(model.folder.path)!r}, provider='cpu')"


def test_a_graph_of_another_kind(model: Model) -> None:
    spec = TensorSpec(np.dtype(np.float32), ("batch", 3, 224, 224))
    session = Session(None, CPU, 0, "", {"pixel_values": spec}, {})
    with pytest.raises(ModelFolderError, match="the graph's inputs are pixel_values: expected"):
        open_decoder(model.folder, session)


# --- flags and functions -------------------------------------------------------------------------

NO_FLAGS: list[Any] = ["no", "yes", 0, 1, None, [], np.array([True, False])]


@pytest.mark.parametrize("value", NO_FLAGS, ids=repr)
def test_a_flag_is_true_or_false(model: Model, value: Any) -> None:
    calls = {
        "add_bos": lambda: model.score("abc", add_bos=value),
        "prompt_logprobs": lambda: model.generate("a", prompt_logprobs=value),
        "entropies": lambda: model.stream("a", entropies=value),
        "startup_cache": lambda: gpt2onnx.load(model.folder.path, startup_cache=value),
    }
    if value is not None:
        calls["do_sample"] = lambda: model.generate("a", do_sample=value)
    for name, call in calls.items():
        with raises(ParameterError, parameters={name: value}):
            call()


@pytest.mark.parametrize("observe", [[], 0, "", "no", np.array([1, 2])], ids=repr)
def test_an_observer_is_a_function(model: Model, observe: Any) -> None:
    with pytest.raises(ParameterError, match=r"observe=.*: expected a function \(prompt_index"):
        model.generate("a", num_beams=2, observe=observe)


def test_an_observer_can_not_write_to_hypotheses(model: Model) -> None:
    def observe(index: int, logits: Any, branches: Any) -> None:
        branches[0].hypothesis.tokens[0] = 1

    with pytest.raises(ValueError, match="read-only"):
        model.generate("a", num_beams=2, observe=observe)


def test_what_stop_fn_writes_to_is_not_the_text(model: Model) -> None:
    def stop(sequence: int, history: Any) -> bool:
        history[:] = 0
        return False

    with pytest.raises(ValueError, match="read-only"):
        model.generate("a", stop_fn=stop)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("do_sample", np.array([1, 2])),
        ("num_beams", np.array([1, 2])),
        ("guidance_scale", np.array([1.0, 2.0])),
        ("prompt_lookup_num_tokens", np.array([1, 2])),
        ("max_new_tokens", "1" * 5000),
        ("temperature", 10**400),
        ("top_k", -(10**5000)),
        ("logit_bias", {5: 10**400}),
        ("seed", 2**512),
        ("x" * 5000, 1),
    ],
    ids=lambda value: repr(value)[:30] if not isinstance(value, int) else "an integer",
)
def test_what_no_parameter_is(model: Model, name: str, value: Any) -> None:
    with pytest.raises(ParameterError) as raised:
        model.generate("a", **{name: value})
    assert len(str(raised.value)) < 3000
