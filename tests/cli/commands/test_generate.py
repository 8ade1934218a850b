from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

import gpt2onnx
from gpt2onnx import GenerationParams
from gpt2onnx.cli.commands import generate
from gpt2onnx.cli.options import model, parameters
from gpt2onnx.errors import ProviderError
from tests.cli.conftest import Run

SAMPLE = ("--do-sample", "--seed", 1, "--max-new-tokens", 6)


def objects(out: str) -> list[dict]:
    return [json.loads(line) for line in out.splitlines()]


@pytest.mark.parametrize("how", [(), ("--stream",), ("--no-stream",)])
def test_plain_output_is_the_text_and_a_newline(
    run: Run, folder: str, model: gpt2onnx.Model, how: tuple[str, ...]
) -> None:
    text = model.generate("hello", max_new_tokens=9).text
    given = ("generate", "hello", "--model", folder, "--max-new-tokens", 9, *how)
    assert run(*given) == (0, text + "\n", "")
    assert run(*given, "--echo") == (0, f"hello{text}\n", "")


def test_text_is_flushed_piece_by_piece(
    run: Run, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    printed: list[tuple[str, bool]] = []

    def spy(*values: object, end: str = "\n", flush: bool = False, **_: object) -> None:
        printed.append(("".join(map(str, values)) + end, flush))

    monkeypatch.setattr(generate, "print", spy, raising=False)
    run("generate", "hello", "--model", folder, "--max-new-tokens", 5)
    _echo, *pieces, newline = printed
    assert len(pieces) == 5
    assert all(flush for _, flush in pieces)
    assert newline == ("\n", False)


def test_several_texts(run: Run, folder: str, model: gpt2onnx.Model) -> None:
    expected = [
        each.text
        for each in model.generate(
            "a", do_sample=True, seed=1, max_new_tokens=6, num_return_sequences=2
        )
    ]
    several = ("generate", "a", "--model", folder, *SAMPLE, "--num-return-sequences", 2)
    assert run(*several)[1] == f"{expected[0]}\n---\n{expected[1]}\n"
    assert run(*several, "--echo")[1] == f"a{expected[0]}\n---\na{expected[1]}\n"
    assert [each["text"] for each in objects(run(*several, "--json")[1])] == expected


def test_beams_come_whole_and_best_first(run: Run, folder: str, model: gpt2onnx.Model) -> None:
    beams = {"num_beams": 3, "num_return_sequences": 2, "max_new_tokens": 5}
    expected: Any = model.generate("x", **beams)
    call = ("generate", "x", "--model", folder, "--num-beams", 3, "--max-new-tokens", 5)
    assert run(*call) == (0, expected[0].text + "\n", "")
    found = objects(run(*call, "--num-return-sequences", 2, "--json")[1])
    assert [each["token_ids"] for each in found] == [each.token_ids for each in expected]
    assert [each["score"] for each in found] == [each.score for each in expected]
    status, out, err = run(*call, "--stream")
    assert (status, out) == (2, "")
    assert "stream with --num-beams 3: beams settle on their tokens at the end" in err


@pytest.mark.parametrize("count", [1, 2])
def test_json_of_each_token(run: Run, folder: str, model: gpt2onnx.Model, count: int) -> None:
    given: Any = {"do_sample": True, "seed": 1, "max_new_tokens": 6, "num_return_sequences": count}
    call = ("generate", "a", "--model", folder, *SAMPLE, "--num-return-sequences", count)
    status, out, err = run(*call, "--json", "--stream")
    names = ("sequence", "id", "text", "logprob", "processed_logprob", "finish_reason")
    expected = [{name: getattr(t, name) for name in names} for t in model.stream("a", **given)]
    assert (status, err) == (0, "")
    assert objects(out) == expected


def test_the_best_of_several(run: Run, folder: str, model: gpt2onnx.Model) -> None:
    drawn: Any = model.generate(
        "a", do_sample=True, seed=1, max_new_tokens=6, num_return_sequences=4
    )
    best = max(drawn, key=lambda each: each.mean_logprob)
    call = ("generate", "a", "--model", folder, *SAMPLE, "--best-of", 4)
    assert run(*call) == (0, best.text + "\n", "")
    assert objects(run(*call, "--json")[1])[0]["token_ids"] == best.token_ids


def test_json_of_the_prompts_tokens(run: Run, folder: str, model: gpt2onnx.Model) -> None:
    call = ("generate", "hello", "--model", folder, "--max-new-tokens", 2, "--json")
    (written,) = objects(run(*call, "--prompt-logprobs")[1])
    assert written["prompt_logprobs"] == model.score("hello", add_bos=False).logprobs


@pytest.mark.parametrize("stream", [False, True])
def test_json_of_alternatives(run: Run, folder: str, model: gpt2onnx.Model, stream: bool) -> None:
    given: Any = {"do_sample": True, "seed": 1, "max_new_tokens": 6, "top_k": 2}
    call = ("generate", "a", "--model", folder, *SAMPLE, "--top-k", 2, "--top-logprobs", 3)
    _, out, _ = run(*call, "--json", *(("--stream",) if stream else ()))
    written = model.generate("a", top_logprobs=3, **given)
    for name in ("alternatives", "processed_alternatives"):
        expected = [[each._asdict() for each in step] for step in getattr(written, name)]
        shown = [token[name] for token in objects(out)] if stream else objects(out)[0][name]
        assert shown == expected


def test_json_of_a_beam_searchs_alternatives(run: Run, folder: str) -> None:
    call = ("generate", "a", "--model", folder, "--max-new-tokens", 3, "--num-beams", 2, "--json")
    (written,) = objects(run(*call, "--top-logprobs", 2)[1])
    assert [len(step) for step in written["alternatives"]] == [2, 2, 2]
    assert "processed_alternatives" not in written


def test_json_is_unicode_itself(run: Run, folder: str) -> None:
    _, out, _ = run(
        *("generate", "x", "--model", folder, "--json", "--max-new-tokens", 2),
        *("--logit-bias", "127=1e9", "--begin-suppress-tokens", "127", "--logit-bias", "102=1e8"),
    )
    assert objects(out)[0]["token_ids"] == [102, 127]
    assert "\\u" not in out


@pytest.mark.parametrize(
    ("how", "rows"),
    [
        ((), ["prompt    5 tokens, the first", "text      6 tokens,", "end       length"]),
        (("--no-stream",), ["prompt    5 tokens", "text      6 tokens, ", "end       length"]),
        (
            ("--num-return-sequences", 2, "--json"),
            ["prompt    5 tokens", "text      12 tokens, ", "end       length, length"],
        ),
        (
            ("--num-return-sequences", 2, "--json", "--stream"),
            ["prompt    5 tokens, the first", "text      12 tokens,", "end       length, length"],
        ),
    ],
)
def test_statistics(run: Run, folder: str, how: tuple[object, ...], rows: list[str]) -> None:
    status, _, err = run("generate", "hello", "--model", folder, *SAMPLE, "--stats", *how)
    assert status == 0
    for line, row in zip(err.splitlines(), ["model", "provider", *rows], strict=True):
        assert line.startswith(row)


def test_statistics_of_one_token(run: Run, folder: str) -> None:
    _, _, err = run("generate", "", "--model", folder, "--max-new-tokens", 1, "--stats")
    assert "prompt    1 tokens" in err  # BOS
    assert "text      1 tokens\n" in err


def test_every_parameter_but_functions_has_an_option() -> None:
    functions = {"prefix_allowed_tokens_fn", "stop_fn"}
    options = {action.dest for action in generate.parser()._actions}
    assert {f.name for f in fields(GenerationParams)} - options == functions


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--max-new-tokens=7"], {"max_new_tokens": 7}),
        (["--max-length=9", "--min-length=4"], {"max_length": 9, "min_length": 4}),
        (["--min-new-tokens=2"], {"min_new_tokens": 2}),
        (["--max-time=1.5"], {"max_time": 1.5}),
        (["--eos-token-id=1"], {"eos_token_id": [1]}),
        (["--eos-token-id=1,2", "--eos-token-id=3"], {"eos_token_id": [1, 2, 3]}),
        (["--eos-token-id="], {"eos_token_id": []}),
        (["--stop-strings=a", "--stop-strings=b,\n"], {"stop_strings": ["a", "b,\n"]}),
        (["--overflow=slide"], {"overflow": "slide"}),
        (["--do-sample"], {"do_sample": True}),
        (["--no-do-sample"], {"do_sample": False}),
        (["--best-of=4", "--return-alternatives"], {"best_of": 4, "return_alternatives": True}),
        (["--num-return-sequences=2", "--seed=3"], {"num_return_sequences": 2, "seed": 3}),
        (["--num-beams=4", "--length-penalty=0"], {"num_beams": 4, "length_penalty": 0.0}),
        (["--early-stopping=true"], {"early_stopping": True}),
        (["--early-stopping=false"], {"early_stopping": False}),
        (["--early-stopping=True"], {"early_stopping": True}),
        (["--early-stopping=never"], {"early_stopping": "never"}),
        (
            ["--num-beam-groups=2", "--diversity-penalty=0.5"],
            {"num_beam_groups": 2, "diversity_penalty": 0.5},
        ),
        (["--force-words-ids=1,2;3"], {"force_words_ids": [[[1, 2]], [[3]]]}),
        (["--force-words-ids=1|2,3"], {"force_words_ids": [[[1], [2, 3]]]}),
        (["--temperature=0.5", "--top-k=4"], {"temperature": 0.5, "top_k": 4}),
        (["--top-p=0.9", "--min-p=0.1"], {"top_p": 0.9, "min_p": 0.1}),
        (["--typical-p=1"], {"typical_p": 1.0}),
        (
            ["--epsilon-cutoff=0.01", "--eta-cutoff=2e-3"],
            {"epsilon_cutoff": 0.01, "eta_cutoff": 0.002},
        ),
        (
            ["--dynatemp-range=0.5", "--dynatemp-exponent=2"],
            {"dynatemp_range": 0.5, "dynatemp_exponent": 2.0},
        ),
        (
            ["--top-n-sigma=1", "--tfs-z=0.95", "--top-a=0.2"],
            {"top_n_sigma": 1.0, "tfs_z": 0.95, "top_a": 0.2},
        ),
        (
            ["--xtc-probability=0.5", "--xtc-threshold=0.2"],
            {"xtc_probability": 0.5, "xtc_threshold": 0.2},
        ),
        (
            ["--mirostat-mode=2", "--mirostat-tau=3", "--mirostat-eta=0.5"],
            {"mirostat_mode": 2, "mirostat_tau": 3.0, "mirostat_eta": 0.5},
        ),
        (["--sampler-order=top_p,top_k"], {"sampler_order": ["top_p", "top_k"]}),
        (
            ["--dry-multiplier=0.8", "--dry-base=2", "--dry-allowed-length=3"],
            {"dry_multiplier": 0.8, "dry_base": 2.0, "dry_allowed_length": 3},
        ),
        (
            ["--dry-penalty-last-n=64", "--dry-sequence-breakers=\n", "--dry-sequence-breakers=;"],
            {"dry_penalty_last_n": 64, "dry_sequence_breakers": ["\n", ";"]},
        ),
        (["--repetition-penalty=1.5"], {"repetition_penalty": 1.5}),
        (["--frequency-penalty", "-0.5"], {"frequency_penalty": -0.5}),
        (["--presence-penalty=1"], {"presence_penalty": 1.0}),
        (["--no-repeat-ngram-size=3"], {"no_repeat_ngram_size": 3}),
        (["--logit-bias=5=-1", "--logit-bias", "6=2.5"], {"logit_bias": {5: -1.0, 6: 2.5}}),
        (["--bad-words-ids=1,2;3", "--bad-words-ids=4"], {"bad_words_ids": [[1, 2], [3], [4]]}),
        (["--suppress-tokens=8,9"], {"suppress_tokens": [8, 9]}),
        (["--begin-suppress-tokens=9"], {"begin_suppress_tokens": [9]}),
        (["--forced-bos-token-id=11"], {"forced_bos_token_id": 11}),
        (["--forced-eos-token-id=12"], {"forced_eos_token_id": [12]}),
        (["--regex=a+"], {"regex": "a+"}),
        (["--json-schema", ' {"type": "null"}'], {"json_schema": ' {"type": "null"}'}),
        (["--grammar", 'start: "a"'], {"grammar": 'start: "a"'}),
        (["--choices=yes", "--choices=no, or"], {"choices": ["yes", "no, or"]}),
        ([], {}),  # what isn't given is left to the model
    ],
)
def test_options_become_parameters(options: list[str], expected: dict) -> None:
    given = parameters.given_parameters(generate.parser().parse_args(options))
    assert given == expected
    assert {name: type(value) for name, value in given.items()} == {
        name: type(value) for name, value in expected.items()
    }


@pytest.mark.parametrize("option", ["--json-schema", "--grammar"])
def test_a_constraint_can_be_a_file(option: str, tmp_path: Path, run: Run) -> None:
    file = tmp_path / "held"
    file.write_text("\ufeffé", encoding="utf-8")  # a byte order mark is no part of the text
    given = parameters.given_parameters(generate.parser().parse_args([option, str(file)]))
    assert given == {option.lstrip("-").replace("-", "_"): "é"}
    status, _, err = run("generate", "x", option, tmp_path / "nowhere")
    assert status == 2
    assert f"argument {option}: {tmp_path / 'nowhere'}: No such file or directory" in err
    os.mkfifo(tmp_path / "pipe")
    for name, expected in (("pipe", "found a pipe"), (".", "found a folder"), ("\0", "no file")):
        status, _, err = run("generate", "x", option, tmp_path / name)
        assert status == 2
        assert expected in err


def test_a_text_is_held_to_a_constraint(run: Run, folder: str) -> None:
    call = ("generate", "x", "--model", folder)
    schema = '{"type": "array", "items": {"const": "é"}, "minItems": 2, "maxItems": 2}'
    assert run(*call, "--json-schema", schema) == (0, '["é", "é"]\n', "")
    assert run(*call, "--choices", "yes", "--choices", "no")[1] in ("yes\n", "no\n")
    status, out, err = run(*call, "--regex", "(")
    assert (status, out) == (2, "")
    assert "--regex '(': " in err


def test_without_a_model_it_is_the_bundled_one(
    run: Run, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = ("generate", "hello", "--max-new-tokens", 4)
    wanted = run(*given, "--model", folder)
    monkeypatch.setattr("gpt2onnx.demo.folder", lambda *which, **made: Path(folder))
    assert run(*given) == wanted


def test_a_cache_that_cannot_be_looked_at(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GPT2ONNX_CACHE", str(tmp_path / ("a" * 300)))
    status, out, err = run("generate", "hello")
    assert (status, out) == (1, "")
    assert "a: no cache can be made there: File name too long; set GPT2ONNX_CACHE" in err


def test_a_provider_that_is_not_there_has_nothing_exported(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def require(provider: str) -> None:
        raise ProviderError(f"{provider} can't run here")

    monkeypatch.setattr(model, "require_provider", require)
    monkeypatch.setenv("GPT2ONNX_CACHE", str(tmp_path))
    told = "gpt2onnx: error: cuda can't run here\n"
    assert run("generate", "hello", "--provider", "cuda") == (2, "", told)
    assert list(tmp_path.iterdir()) == []


def test_the_bundled_models_first_use_is_announced(
    run: Run, folder: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("gpt2onnx.demo.folder", lambda *which, **made: tmp_path / "not there")
    monkeypatch.setattr("gpt2onnx.demo.exported", lambda *which, **made: Path(folder))
    _, _, errors = run("generate", "hello", "--max-new-tokens", 1)
    assert errors == "gpt2onnx: exporting the bundled model, once\n"


def test_provider_and_threads_reach_the_model(
    run: Run, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    called = []

    def load(*args: object) -> gpt2onnx.Model:
        called.append(args)
        return gpt2onnx.load(folder)

    monkeypatch.setattr("gpt2onnx.cli.options.model.load", load)
    run(
        *("generate", "x", "--model", "m", "--provider", "cuda", "--threads", 2),
        *("--provider-option", "device_id=1", "--provider-option", "a=b=c"),
    )
    options = {"device_id": "1", "a": "b=c"}
    assert called == [(Path("m"), "cuda", options, 2, True, "auto")]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("--temperature", 0.5), "--temperature 0.5 has no effect without --do-sample"),
        (("--top-k", "x"), "argument --top-k: invalid int value: 'x'"),
        (("--max-new-tokens", 0), "--max-new-tokens 0: "),
        (
            ("--max-new-tokens", 3, "--max-length", 9),
            "--max-new-tokens 3 with --max-length 9: ",
        ),
        (("--max-length", 2), "--max-length 2 leaves nothing"),
        (("--do-sample", "--top-p", 3), "--top-p 3.0: "),
        (("--eos-token-id", "a"), "argument --eos-token-id: expected token ids such as 1,2"),
        (("--bad-words-ids", "1;;2"), "--bad-words-ids [[1], [], [2]]: "),
        (("--logit-bias", "5"), "argument --logit-bias: expected ID=X such as 50256=-5, got '5'"),
        (("--logit-bias", "999=1"), "--logit-bias holds token 999: "),
        (("--stop-strings", ""), "--stop-strings ['']: "),
        (("--overflow", "wrap"), "--overflow 'wrap': "),
        (("--max-tokens", 3), "unrecognized arguments: --max-tokens 3"),
        (("--max-new", 3), "unrecognized arguments: --max-new 3"),
        (("--prompt-logprobs",), "--prompt-logprobs has no effect without --json"),
        (
            ("--prompt-logprobs", "--json", "--stream"),
            "--prompt-logprobs has no effect without --json, nor with --stream",
        ),
        (
            ("--do-sample", "--best-of", 3, "--stream"),
            "--stream with --best-of 3: ",
        ),
        (("--top-logprobs", 2), "--top-logprobs 2 has no effect without --json"),
        (("--json", "--top-logprobs", -1), "--top-logprobs -1: "),
        (("--json", "--echo"), "--echo has no effect with --json: leave one out"),
        (
            ("--do-sample", "--num-return-sequences", 2, "--stream"),
            "--stream shows one text, not 2: leave it out, or add --json, which says whose",
        ),
        (("--provider", "none"), "unknown provider 'none': "),
        (("--provider-option", "a"), "argument --provider-option: expected KEY=VALUE, got 'a'"),
        (("--provider-option", "a=b"), "--provider-option belong to one provider: name it"),
        (("--threads", 0), "--threads 0: "),
        (("--threads", "two"), "argument --threads: invalid int value: 'two'"),
        (("--model", "/no/such"), "/no/such: "),
    ],
)
def test_mistakes_are_one_line(
    run: Run, folder: str, given: tuple[object, ...], message: str
) -> None:
    status, out, err = run("generate", "hello", "--model", folder, *given)
    assert (status, out) == (2, "")
    assert err.startswith(f"gpt2onnx: error: {message}")
    assert err.count("\n") == 1


def test_a_checkpoint_is_no_model_folder(run: Run, checkpoint: Path) -> None:
    status, _, err = run("generate", "hello", "--model", checkpoint)
    assert status == 2
    assert "`gpt2onnx export` makes a model folder of it" in err


def test_a_prompt_that_is_too_long(run: Run, folder: str) -> None:
    given = ("generate", "x" * 100, "--model", folder, "--max-new-tokens", 3)
    status, _, err = run(*given)
    assert status == 2
    assert "the prompt has 100 tokens, the model 64 positions" in err
    assert "--overflow 'truncate'" in err
    assert run(*given, "--overflow", "truncate")[0] == 0


def test_an_argument_that_is_not_utf8(run: Run, folder: str) -> None:
    status, _, err = run("generate", "a\udcff", "--model", folder)
    assert status == 2
    assert err.count("\n") == 1
    assert "UTF-8" in err


def test_ctrl_c_leaves_what_was_written_and_ends_its_line(
    run: Run, folder: str, model: gpt2onnx.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    pieces = [token.text for token in model.stream("hello", max_new_tokens=9)][:3]
    monkeypatch.setattr(gpt2onnx.Model, "stream", interrupted_after(3, gpt2onnx.Model.stream))
    given = ("generate", "hello", "--model", folder, "--stats")
    assert run(*given) == (130, "".join(pieces) + "\n", "")


def test_ctrl_c_leaves_unfinished_json_out(
    run: Run, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(gpt2onnx.Model, "generate", interrupted)
    assert run("generate", "hello", "--model", folder, "--json") == (130, "", "")


def interrupted_after(count: int, stream: Callable) -> Callable:
    def interrupted(*args: object, **kwargs: object) -> object:
        tokens = stream(*args, **kwargs)
        for _ in range(count):
            yield next(tokens)
        tokens.close()
        raise KeyboardInterrupt

    return interrupted


@pytest.mark.parametrize(
    "given",
    [
        ("--logit-bias=97=1e39",),
        ("--logit-bias=97=3e38", "--num-beams=3"),
        ("--logit-bias=97=3e38", "--num-beams=3", "--do-sample"),
        ("--repetition-penalty=1e39", "--do-sample"),
        ("--top-n-sigma=1e-38", "--logit-bias=97=-1e38", "--do-sample"),
        ("--top-n-sigma=1e-193", "--logit-bias=97=1e38", "--do-sample"),
        ("--dry-multiplier=1e-300", "--dry-allowed-length=1"),
        ("--dry-multiplier=1e300", "--dry-base=1e300"),
    ],
)
def test_extreme_values_say_nothing_on_standard_error(
    run: Run, folder: str, given: tuple[str, ...]
) -> None:
    """But for a line where no token is left. numpy would warn of what is larger than any float32;
    warnings are errors here."""
    call = ("generate", "abcabcab", "--model", folder, "--max-new-tokens", 6)
    status, _, err = run(*call, *given)
    assert (status, err.count("\n")) in {(0, 0), (2, 1)}
