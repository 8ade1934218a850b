"""Contrastive search: its loop on a fake decoder, and with a small model against a torch loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gpt2onnx
from gpt2onnx import Model
from gpt2onnx.errors import ParameterError, PromptTooLongError
from gpt2onnx.runtime.decoder.protocol import EVERY, Decoder, Hidden, Ids, Read, Result
from gpt2onnx.runtime.decoding.contrastive import Contrastive
from gpt2onnx.runtime.decoding.sequence import TokenSequence
from gpt2onnx.samplers import GenerationParams, log_softmax
from gpt2onnx.samplers.contrastive import contrast, unit
from tests.fake_decoder import FakeDecoder, by_history
from tests.raising import raises
from tests.runtime.decoding.running import run_strategy

VOCAB = 12
RULE = by_history(VOCAB)
STATE = by_history(4, seed=9)
ON = {"penalty_alpha": 0.6, "top_k": 4}
IDS = [np.random.default_rng(n).integers(0, 256, n).tolist() for n in (1, 2, 7, 19, 40)]


class Hiding(FakeDecoder):
    """Tells a hidden state of each history, too."""

    hidden_size = 4

    def _read(self, read: Read) -> Result:
        start = read.row.length
        result = super()._read(read)
        every = np.arange(start, read.row.length) + 1
        ends = every if read.hidden else every[read.wanted]
        hidden = np.stack([STATE(tuple(read.row.held[:end])) for end in ends])
        return result._replace(hidden=hidden)


def continuations(prompts: Sequence[Sequence[int]], **parameters: Any) -> list[TokenSequence]:
    params = GenerationParams(**{**ON, **parameters})
    return [TokenSequence(n, np.array(p, np.int64), params) for n, p in enumerate(prompts)]


def by_hand(prompt: list[int], count: int, alpha: float, top_k: int) -> list[int]:
    """Every history read from its beginning."""
    tokens = list(prompt)
    for _ in range(count):
        probabilities = np.exp(log_softmax(RULE(tuple(tokens))))
        best = np.argsort(-probabilities, kind="stable")[:top_k]
        context = [STATE(tuple(tokens[:end])) for end in range(1, len(tokens) + 1)]
        states = [STATE((*tokens, int(token))) for token in best]
        chosen = contrast(
            probabilities[best], unit(np.stack(states)), unit(np.stack(context)), alpha
        )
        tokens.append(int(best[chosen]))
    return tokens[len(prompt) :]


@pytest.mark.parametrize(("alpha", "top_k"), [(0.6, 4), (0.2, 2), (1.0, 3), (0.5, VOCAB)])
def test_several_prompts_are_searched_as_alone(
    alpha: float, top_k: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Hiding, "chunk", 2)
    prompts = [[1], [2, 3, 5], [0, 1, 2, 3, 4]]
    decoder, sequences = Hiding(RULE), continuations(prompts, max_new_tokens=8)
    list(run_strategy(Contrastive(alpha, top_k), decoder, sequences))
    assert decoder.rows == []
    for prompt, sequence in zip(prompts, sequences, strict=True):
        assert sequence.history[len(prompt) :].tolist() == by_hand(prompt, 8, alpha, top_k)
    assert {rows for name, rows in decoder.calls if name == "step"} == {3 * top_k}
    assert {size for name, size in decoder.calls if name == "copy"} == {1}


def test_a_finished_sequence_leaves_the_step() -> None:
    first, second = by_hand([1], 6, 0.6, 4), by_hand([2], 6, 0.6, 4)
    end = next(token for token in first if token not in second)
    decoder = Hiding(RULE)
    sequences = continuations([[1], [2]], max_new_tokens=6, eos_token_id=end)
    list(run_strategy(Contrastive(0.6, 4), decoder, sequences))
    assert [each.finish_reason for each in sequences] == ["eos", "length"]
    assert sequences[0].history[1:].tolist() == first[: first.index(end) + 1]
    assert sequences[1].history[1:].tolist() == second
    assert [rows for name, rows in decoder.calls if name == "step"][-1] == 4


def test_fewer_candidates_than_rows() -> None:
    def allowed(_: int, history: Ids) -> list[int]:
        return [3] if len(history) % 2 else [4, 5]

    parameters = {"max_new_tokens": 6, "prefix_allowed_tokens_fn": allowed}
    decoder, (sequence,) = Hiding(RULE), continuations([[1]], **parameters)
    steps = list(run_strategy(Contrastive(0.6, 4), decoder, [sequence]))
    assert [rows for name, rows in decoder.calls if name == "step"] == [1, 2] * 3
    assert [step.processed_logprob for step in steps[::2]] == [0, 0, 0]
    assert set(sequence.history[1::2].tolist()) == {3}


def test_tells_the_models_own_logprobs() -> None:
    (sequence,) = continuations([[1, 2]], max_new_tokens=5, repetition_penalty=1.5)
    for step in run_strategy(Contrastive(0.6, 4), Hiding(RULE), [sequence]):
        logits = RULE(tuple(sequence.history[:-1]))
        np.testing.assert_array_equal(step.logits, logits)
        assert step.logprob == pytest.approx(log_softmax(logits)[step.token_id], abs=1e-5)


def test_ends_with_the_last_position() -> None:
    decoder, (sequence,) = Hiding(RULE, n_positions=5), continuations([[1, 2, 3]])
    list(run_strategy(Contrastive(0.6, 4), decoder, [sequence]))
    assert sequence.finish_reason == "context"
    assert len(sequence.history) == 5
    decoder = Hiding(RULE, n_positions=3)
    with pytest.raises(PromptTooLongError, match="contrastive search"):
        list(run_strategy(Contrastive(0.6, 4), decoder, continuations([[1], [1, 2, 3]])))
    assert decoder.rows == []


def test_max_time_and_closing_free_the_rows() -> None:
    decoder, sequences = Hiding(RULE), continuations([[1], [2]], max_new_tokens=50)
    list(run_strategy(Contrastive(0.6, 4), decoder, sequences, max_time=1e-9))
    assert [each.finish_reason for each in sequences] == ["time", "time"]
    steps = run_strategy(Contrastive(0.6, 4), decoder, continuations([[1], [2]], max_new_tokens=50))
    next(steps)
    assert len(decoder.rows) == 8
    steps.close()
    assert decoder.rows == []


def test_the_text_isnt_the_greedy_one(hiding: Model, model: Model) -> None:
    plain = hiding.generate("hello", max_new_tokens=20)
    assert plain == model.generate("hello", max_new_tokens=20)  # hidden states change no bit
    assert hiding.generate("hello", max_new_tokens=20, **ON).text != plain.text


def test_there_are_transformers_50_candidates_unless_told(hiding: Model) -> None:
    given = hiding.generate("hello", max_new_tokens=8, penalty_alpha=0.9, top_k=50)
    assert hiding.generate("hello", max_new_tokens=8, penalty_alpha=0.9) == given


def test_as_far_as_the_positions_reach(hiding: Model) -> None:
    written = hiding.generate("hello", max_new_tokens=100, eos_token_id=[], **ON)
    assert (written.finish_reason, len(written.token_ids)) == ("context", 59)
    full = hiding.generate("x" * 70, max_new_tokens=3, eos_token_id=[], overflow="truncate", **ON)
    assert len(full.token_ids) == 3
    for length in (64, 80):
        given = {"max_length": length, "eos_token_id": [], "overflow": "truncate", **ON}
        full = hiding.generate("x" * 70, **given)
        assert (len(full.prompt_token_ids), len(full.token_ids)) == (63, 1)


def test_a_folder_without_hidden_states_says_what_to_do(model: Model) -> None:
    with raises(ParameterError, named=("penalty_alpha",)):
        model.stream("hello", **ON)


def hidden_states(decoder: Decoder[Any], row: Any, ids: Ids) -> Hidden:
    """Those of ids [n], read at once: [n, hidden_size]."""
    (every,) = decoder.read([Read(row, ids, EVERY)])
    decoder.truncate(row, 0)
    (last,) = decoder.read([Read(row, ids, prompt=True, hidden=True)])
    assert last.logits.shape == (1, decoder.vocab_size)
    np.testing.assert_array_equal(last.hidden, every.hidden)
    return last.hidden


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_other_precisions_tell_them_in_single_precision(
    checkpoint: Path, tmp_path: Path, hiding: Model, precision: str
) -> None:
    out = tmp_path / "model"
    gpt2onnx.export(checkpoint, out, precision=precision, with_hidden_states=True, verify=False)
    other = gpt2onnx.load(out, threads=1)
    assert len(other.generate("hello", max_new_tokens=5, eos_token_id=[], **ON).token_ids) == 5
    states: list[Hidden] = []
    for decoder in (hiding.decoder, other.decoder):
        row = decoder.new_row()
        states.append(hidden_states(decoder, row, np.array(IDS[-1])))
        decoder.free(row)
    assert states[1].dtype == np.float32
    cosine = (unit(states[0]) * unit(states[1])).sum(axis=1)
    assert cosine.min() > 0.99


def test_the_manifest_tells(hiding: Model, models: Callable[[str], Path]) -> None:
    assert hiding.folder.manifest is not None
    assert hiding.folder.manifest["hidden_states"] is True
    assert gpt2onnx.load(models("fp32")).folder.manifest["hidden_states"] is False


def test_the_portable_graph_has_none(checkpoint: Path, tmp_path: Path) -> None:
    with raises(ParameterError, parameters={"with_hidden_states": True}):
        gpt2onnx.export(
            checkpoint, tmp_path / "x", precision="fp32", graph="portable", with_hidden_states=True
        )
