"""A trimmed checkpoint beside its original: tokens, weights, settings, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers, processors

import gpt2onnx
from gpt2onnx.errors import OutputExistsError, ParameterError, PromptError, TokenizerError
from gpt2onnx.export.checkpoint.tokenizer import load_tokenizer
from gpt2onnx.runtime.engine.score import walk
from gpt2onnx.smaller.checkpoint import open_source
from gpt2onnx.smaller.trim.trim import trim
from tests.checkpoints import END_OF_TEXT
from tests.raising import raises
from tests.smaller.bpe_checkpoint import END, PAD, PADDED, TEXT, make_bpe_checkpoint, write

SOME = TEXT[:3000]
MUST = 256 + 2 + 3  # bytes, added tokens, and 650, 699 and 300 of generation_config.json


def table(folder: Path) -> dict[int, int]:
    """New ids by old ones."""
    content = json.loads((folder / "token_ids.json").read_text())
    return {int(old): new for old, new in content.items()}


@pytest.fixture(scope="module")
def small(bpe_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("trimmed") / "out"
    made = trim(bpe_checkpoint, out, [SOME[:1500], SOME[1500:]], size=400)
    assert (made.tokens, made.tokens_before) == (400, PADDED)
    assert made.size == (out / "model.safetensors").stat().st_size - header(out)
    return out


def header(folder: Path) -> int:
    return 8 + int.from_bytes((folder / "model.safetensors").read_bytes()[:8], "little")


def test_each_new_id_is_the_old_token(bpe_checkpoint: Path, small: Path) -> None:
    before, after = (open_source(folder).tokenizer for folder in (bpe_checkpoint, small))
    ids = table(small)
    assert sorted(ids.values()) == list(range(400))
    for old, new in ids.items():
        assert after.id_to_token(new) == before.id_to_token(old)
    assert after.get_added_tokens_decoder().keys() == {ids[END], ids[PAD]}
    assert list(ids.values()) == sorted(ids.values())  # rows stay in order


def test_rows_of_kept_tokens_are_the_originals(bpe_checkpoint: Path, small: Path) -> None:
    before, after = open_source(bpe_checkpoint), open_source(small)
    ids = table(small)
    kept = before.tensor("wte.weight")[list(ids)]
    assert np.array_equal(after.tensor("wte.weight"), kept)
    for name in ("wpe.weight", "h.1.mlp.c_fc.weight", "ln_f.bias"):
        assert np.array_equal(before.tensor(name), after.tensor(name))


def test_ids_in_the_settings_are_mapped(small: Path) -> None:
    ids = table(small)
    config = json.loads((small / "config.json").read_text())
    assert [config[name] for name in ("vocab_size", "eos_token_id")] == [400, ids[END]]
    assert json.loads((small / "generation_config.json").read_text()) == {
        "bos_token_id": ids[END],
        "eos_token_id": [ids[END], ids[650]],
        "pad_token_id": ids[PAD],
        "suppress_tokens": [ids[699], ids[300]],
    }
    declared = json.loads((small / "tokenizer_config.json").read_text())["added_tokens_decoder"]
    assert {index: token["content"] for index, token in declared.items()} == {
        str(ids[END]): END_OF_TEXT,
        str(ids[PAD]): "<pad>",
    }


def test_both_kinds_of_tokenizer_files_say_the_same(small: Path, tmp_path: Path) -> None:
    for name in ("vocab.json", "merges.txt", "tokenizer_config.json", "config.json"):
        (tmp_path / name).write_bytes((small / name).read_bytes())
    one, other = (load_tokenizer(folder) for folder in (small, tmp_path))
    assert one.get_vocab() == other.get_vocab()
    assert one.encode(TEXT).ids == other.encode(TEXT).ids


@given(st.data())
def test_any_text_is_read_and_kept_tokens_the_same(
    bpe_checkpoint: Path, small: Path, data: st.DataObject
) -> None:
    before, after = load_tokenizer(bpe_checkpoint), load_tokenizer(small)
    ids = table(small)
    pieces = st.one_of(
        st.sampled_from(sorted(ids)).map(lambda old: before.decode([old])),
        st.sampled_from(SOME.split()),
        st.text(max_size=5),
    )
    text = "".join(data.draw(st.lists(pieces, max_size=20)))
    old, new = before.encode(text).ids, after.encode(text).ids
    assert after.decode(new) == before.decode(old)
    if ids.keys() >= {*old}:
        assert new == [ids[index] for index in old]


def test_without_a_number_all_used_tokens_stay(bpe_checkpoint: Path, tmp_path: Path) -> None:
    before = load_tokenizer(bpe_checkpoint)
    made = trim(bpe_checkpoint, tmp_path / "out", [SOME])
    used = before.encode(SOME).ids
    assert {*used} <= table(tmp_path / "out").keys()
    assert (made.text_tokens, made.kept_tokens) == (len(used), len(used))
    assert len(load_tokenizer(tmp_path / "out").encode(SOME).ids) == len(used)
    fewer = trim(bpe_checkpoint, tmp_path / "fewer", [SOME], min_count=10)
    counts = np.bincount(used)
    assert {*np.flatnonzero(counts >= 10).tolist()} <= table(tmp_path / "fewer").keys()
    assert MUST <= fewer.tokens < made.tokens < PADDED


def test_the_most_used_tokens_are_kept(bpe_checkpoint: Path, small: Path) -> None:
    used = np.bincount(load_tokenizer(bpe_checkpoint).encode(SOME).ids, minlength=PADDED)
    dropped = [index for index in range(PADDED) if index not in table(small)]
    merged = [index for index in table(small) if 256 <= index < 700 and index not in (650, 699)]
    assert used[dropped].max() <= np.median(used[merged])


def test_a_size_is_met_exactly_whatever_the_merges_need(
    bpe_checkpoint: Path, tmp_path: Path
) -> None:
    with raises(ParameterError, parameters={"size": 10}) as raised:
        trim(bpe_checkpoint, tmp_path / "none", [SOME], size=10)
    least = int(str(raised.value).split("at least ")[1].split(",")[0])
    for size in (least, least + 1, 500, 702):
        made = trim(bpe_checkpoint, tmp_path / str(size), [SOME], size=size)
        assert made.tokens == size == len(table(tmp_path / str(size)))
    with pytest.raises(ParameterError, match=f"size={least - 1}: expected at least {least}, since"):
        trim(bpe_checkpoint, tmp_path / "none", [SOME], size=least - 1)
    with pytest.raises(ParameterError, match="size=703: expected at most 702, the tokens"):
        trim(bpe_checkpoint, tmp_path / "none", [SOME], size=703)
    assert not (tmp_path / "none").exists()


def test_a_row_that_settings_name_stays_without_a_token(tmp_path: Path) -> None:
    source = make_bpe_checkpoint(tmp_path / "source")
    write(source / "generation_config.json", {"pad_token_id": 710, "sep_token_id": 9999})
    trim(source, tmp_path / "out", [SOME], size=400)
    assert table(tmp_path / "out")[710] == 399
    settings = json.loads((tmp_path / "out" / "generation_config.json").read_text())
    assert settings == {"pad_token_id": 399, "sep_token_id": 9999}
    rows = [open_source(folder).tensor("wte.weight") for folder in (source, tmp_path / "out")]
    assert np.array_equal(rows[0][710], rows[1][399])


def test_a_head_of_its_own_loses_the_same_rows(tmp_path: Path) -> None:
    source = make_bpe_checkpoint(tmp_path / "source", tie_word_embeddings=False)
    trim(source, tmp_path / "out", [SOME], size=300)
    ids = list(table(tmp_path / "out"))
    before, after = (open_source(folder) for folder in (source, tmp_path / "out"))
    for name in ("wte.weight", "lm_head.weight"):
        assert np.array_equal(before.tensor(name)[ids], after.tensor(name))


def test_tokens_around_a_text_are_mapped(tmp_path: Path) -> None:
    source = make_bpe_checkpoint(tmp_path / "source")
    tokenizer = Tokenizer.from_file(str(source / "tokenizer.json"))
    template = processors.TemplateProcessing(
        single=f"{END_OF_TEXT} $A", special_tokens=[(END_OF_TEXT, END)]
    )
    bytes_too = processors.Sequence([processors.ByteLevel(trim_offsets=False), template])
    for processor in (template, bytes_too, processors.RobertaProcessing(("<pad>", PAD), ("!", 0))):
        tokenizer.post_processor = processor
        tokenizer.save(str(source / "tokenizer.json"))
        out = tmp_path / f"out-{type(processor).__name__}"
        trim(source, out, [SOME], size=400)
        ids = table(out)
        expected = [ids[index] for index in load_tokenizer(source).encode("a ").ids]
        assert load_tokenizer(out).encode("a ").ids == expected


def test_added_tokens_of_older_files_are_mapped(tmp_path: Path) -> None:
    source = make_bpe_checkpoint(tmp_path / "source")
    settings = json.loads((source / "tokenizer_config.json").read_text())
    del settings["added_tokens_decoder"]
    write(source / "tokenizer_config.json", settings)
    write(source / "added_tokens.json", {"<pad>": PAD, "<mine>": 702})
    trim(source, tmp_path / "out", [SOME + "<mine>"], size=400)
    ids = table(tmp_path / "out")
    assert json.loads((tmp_path / "out" / "added_tokens.json").read_text()) == {
        "<pad>": ids[PAD],
        "<mine>": ids[702],
    }
    assert load_tokenizer(tmp_path / "out").encode("<mine>").ids == [ids[702]]


def test_added_tokens_that_the_tokenizer_does_not_know(tmp_path: Path) -> None:
    source = make_bpe_checkpoint(tmp_path / "source")
    write(source / "added_tokens.json", {"<pad>": PAD, "<elsewhere>": 9999})
    trim(source, tmp_path / "out", [SOME], size=400)
    kept = json.loads((tmp_path / "out" / "added_tokens.json").read_text())
    assert kept == {"<pad>": table(tmp_path / "out")[PAD]}


@pytest.mark.parametrize("broken", ["{", "[]", '{"a": 1'])
def test_added_tokens_that_are_no_json(tmp_path: Path, broken: str) -> None:
    source = make_bpe_checkpoint(tmp_path / "source")
    (source / "added_tokens.json").write_text(broken)
    with pytest.raises(TokenizerError, match=r"added_tokens\.json"):
        trim(source, tmp_path / "out", [SOME], size=400)
    assert not (tmp_path / "out").exists()


def word_piece(tokenizer: Tokenizer) -> None:
    tokenizer.model = models.WordPiece(tokenizer.get_vocab(), unk_token="!")


def no_bytes(tokenizer: Tokenizer) -> None:
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()


def unfinished(tokenizer: Tokenizer) -> None:
    vocab = {"a": 0, "b": 1}
    tokenizer.model = models.BPE(vocab, [])


def dropout(tokenizer: Tokenizer) -> None:
    tokenizer.model.dropout = 0.1


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (word_piece, "found a WordPiece model"),
        (no_bytes, "found a BPE over Whitespace"),
        (unfinished, "found one without a token for 254 of the 256 bytes"),
        (dropout, "found a BPE with dropout 0.1"),
    ],
)
def test_other_tokenizers_are_refused_by_name(
    tmp_path: Path, change: Callable[[Tokenizer], None], found: str
) -> None:
    source = make_bpe_checkpoint(tmp_path / "source")
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        (source / name).unlink()
    tokenizer = Tokenizer.from_file(str(source / "tokenizer.json"))
    change(tokenizer)
    tokenizer.save(str(source / "tokenizer.json"))
    with pytest.raises(TokenizerError, match=f"expected a byte-level BPE tokenizer, {found}"):
        trim(source, tmp_path / "out", [SOME])
    assert not (tmp_path / "out").exists()


def test_bytes_by_a_normalizer_are_bytes_too(tmp_path: Path) -> None:
    source = make_bpe_checkpoint(tmp_path / "source")
    tokenizer = Tokenizer.from_file(str(source / "tokenizer.json"))
    tokenizer.normalizer = normalizers.ByteLevel()
    tokenizer.pre_tokenizer = pre_tokenizers.Split(AddedToken("Ġ").content, "merged_with_next")
    tokenizer.save(str(source / "tokenizer.json"))
    trim(source, tmp_path / "out", [SOME], size=400)
    assert load_tokenizer(tmp_path / "out").encode("def é").ids


@pytest.mark.parametrize("texts", [[], [""], ["", ""]])
def test_a_text_without_a_token(bpe_checkpoint: Path, tmp_path: Path, texts: list[str]) -> None:
    with pytest.raises(PromptError, match="the text holds no token; give one like those to come"):
        trim(bpe_checkpoint, tmp_path / "out", texts)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("options", [{"size": 0}, {"min_count": True}])
def test_counts_out_of_range(bpe_checkpoint: Path, tmp_path: Path, options: dict[str, Any]) -> None:
    with raises(ParameterError, parameters=options):
        trim(bpe_checkpoint, tmp_path / "out", [SOME], **options)


def test_two_counts_contradict(bpe_checkpoint: Path, tmp_path: Path) -> None:
    said = "size=300 and min_count=2 each say how many tokens stay"
    with pytest.raises(ParameterError, match=said):
        trim(bpe_checkpoint, tmp_path / "out", [SOME], size=300, min_count=2)


def test_what_is_there_stays(bpe_checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    with raises(OutputExistsError, path=tmp_path):
        trim(bpe_checkpoint, tmp_path, [SOME])
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_a_text_of_another_language_is_told(bpe_checkpoint: Path, tmp_path: Path) -> None:
    assert trim(bpe_checkpoint, tmp_path / "python", [SOME]).note == ""
    made = trim(bpe_checkpoint, tmp_path / "japanese", ["日本語の文章です。"])
    assert "tokens a character: it seems to be of another language" in made.note


def test_what_comes_out_is_exported_with_the_same_logits(
    bpe_checkpoint: Path, tmp_path: Path
) -> None:
    trim(bpe_checkpoint, tmp_path / "trimmed", [SOME])
    ids, logits = table(tmp_path / "trimmed"), []
    for source in (bpe_checkpoint, tmp_path / "trimmed"):
        out = tmp_path / f"{source.name}-onnx"
        gpt2onnx.export(source, out, precision="fp32", verify=False)
        model = gpt2onnx.load(out, threads=1)
        assert model.generate("def main(", max_new_tokens=5).text
        read = np.array(model.tokenizer.encode(SOME[:200]).ids)
        logits.append(np.concatenate([piece for _, piece in walk(model.decoder, read)]))
    assert np.array_equal(logits[0][:, list(ids)], logits[1])
