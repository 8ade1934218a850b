"""Ways to damage a checkpoint's tokenizer files and settings, the same for the same seed."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

JUNK: list[Any] = [
    *(None, True, False, 0, -1, 1, 2**31, 2**32, 2**63, 10**30, 10**400, 1e308, "", "a", "\x00"),
    *("x" * 5000, [], [[]], [1], ["a"], {}, {"a": 1}, "<|endoftext|>", "\u2028", [None] * 3),
    *({"content": 5}, {"content": "z", "special": "no"}, {"type": "Sequence"}, -5),
]
BYTES = [
    *(b"", b"null", b"[]", b"{}", b'{"a":1e999}', b'{"bos_token":"\\ud800"}', b"\xff\xfe{"),
    *(b'{"n":' + b"9" * 6000 + b"}", b"[" * 100_000, b'{"a":' * 900 + b"1" + b"}" * 900),
]
CHARSMAPS = [b"", b"abc", b"\xff" * 9, (64).to_bytes(4, "little") + bytes(range(64))]


def _replace(content: str, **pattern: str) -> dict[str, Any]:
    return {"type": "Replace", "pattern": pattern, "content": content}


def _split(regex: str) -> dict[str, Any]:
    pattern = {"Regex": regex}
    return {"type": "Split", "pattern": pattern, "behavior": "Isolated", "invert": False}


def _template(before: dict[str, Any], count: int = 1, **tokens: int) -> dict[str, Any]:
    single = [before, *[{"Sequence": {"id": "A", "type_id": 0}}] * count]
    special = {name: {"id": name, "ids": [i], "tokens": [name]} for name, i in tokens.items()}
    kind = "TemplateProcessing"
    return {"type": kind, "single": single, "pair": [], "special_tokens": special}


_X = {"SpecialToken": {"id": "x", "type_id": 0}}
_A = {"Sequence": {"id": "A", "type_id": 0}}

PARTS: dict[str, list[dict[str, Any]]] = {
    "normalizer": [
        *({"type": name} for name in ("NFC", "NFKD", "Lowercase", "Nmt", "ByteLevel")),
        *(_replace("b" * n, String="a") for n in (0, 1, 10, 10_000)),
        *(_replace("b", Regex=regex) for regex in ("a*", "(a+)+b", "[", "(?=a)")),
        *(
            {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(each).decode()}
            for each in CHARSMAPS
        ),
        {"type": "Prepend", "prepend": "x" * 5000},
    ],
    "pre_tokenizer": [
        *({"type": name} for name in ("Whitespace", "BertPreTokenizer", "UnicodeScripts")),
        *(_split(regex) for regex in ("(a+)+b", "", "x*", "(?<=a)b")),
        *({"type": "FixedLength", "length": n} for n in (0, 1, 2**60)),
    ],
    "post_processor": [
        *(_template(_A, n) for n in (0, 2, 5000)),
        *(_template(_X, x=i) for i in (5, 256, 257, 4096, 2**31 - 1)),
        _template(_X),
        {"type": "BertProcessing", "sep": ["a", 70_000], "cls": ["b", 1]},
        {
            "type": "RobertaProcessing",
            "sep": ["a", 3],
            "cls": ["b", 10**6],
            "trim_offsets": True,
            "add_prefix_space": True,
        },
    ],
    "decoder": [
        *({"type": name} for name in ("ByteFallback", "Fuse")),
        *({"type": "Strip", "content": "h", "start": n, "stop": n} for n in (1, 10**9)),
        *(_replace("b" * n, String="a") for n in (0, 10, 10_000)),
    ],
}
MEMBERS = {
    "normalizer": "normalizers",
    "pre_tokenizer": "pretokenizers",
    "post_processor": "processors",
    "decoder": "decoders",
}
_WORD_PIECE = {"continuing_subword_prefix": "##", "max_input_chars_per_word": 100}
MODELS: list[dict[str, Any]] = [
    {"type": "BPE", "vocab": {}, "merges": []},
    {"type": "BPE", "vocab": {"a": 5_000_000}, "merges": []},
    {"type": "BPE", "vocab": {"a": 0, "b": 0}, "merges": []},
    {"type": "BPE", "vocab": {"a": 0, "\x00": 1}, "merges": [["a", "b"]]},
    {"type": "BPE", "vocab": {"a": 0, "aa": 1}, "merges": [["a", "a"]]}
    | {"continuing_subword_prefix": "#" * 20},
    {"type": "WordPiece", "vocab": {"a": 0}, "unk_token": "[UNK]"} | _WORD_PIECE,
    {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "<unk>"},
    {"type": "Unigram", "vocab": [], "unk_id": None},
    {"type": "Unigram", "vocab": [["a", -1.0], ["bb", -2.0]], "unk_id": 0},
    {"type": "Unigram", "vocab": [["", -1.0], ["\x00", -2.0]], "unk_id": 7},
]


def set_part(tokenizer: dict[str, Any], place: str, parts: list[dict[str, Any]]) -> None:
    several = {"type": "Sequence", MEMBERS[place]: parts}
    tokenizer[place] = parts[0] if len(parts) == 1 else several


def damage(path: Path, chance: random.Random) -> None:
    """Change a file, made where it isn't there, in one of many ways."""
    content = path.read_bytes() if path.exists() else b"{}"
    way = chance.random()
    if path.name == "tokenizer.json" and way < 0.6:
        tokenizer = json.loads(content)
        _damage_tokenizer(tokenizer, chance)
        path.write_text(json.dumps(tokenizer))
    elif path.suffix == ".json" and way < 0.8:
        path.write_text(json.dumps(_damaged_json(json.loads(content), chance)))
    else:
        path.write_bytes(_damaged_bytes(content, chance))


def _damage_tokenizer(tokenizer: dict[str, Any], chance: random.Random) -> None:
    if chance.random() < 0.7:
        place = chance.choice(list(PARTS))
        count = chance.choice([1, 1, 1, 2, 3, 150])
        set_part(tokenizer, place, [chance.choice(PARTS[place]) for _ in range(count)])
    else:
        tokenizer["model"] = chance.choice(MODELS)


def _damaged_json(content: Any, chance: random.Random) -> Any:
    for _ in range(chance.choice([1, 1, 2, 4])):
        place = chance.choice(list(_places(content)))
        junk = json.loads(json.dumps(chance.choice(JUNK)))
        if not place:
            return junk
        inner = content
        for key in place[:-1]:
            inner = inner[key]
        inner[place[-1]] = junk
    return content


def _places(content: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield place
    if isinstance(content, dict):
        keys: list[Any] = list(content)[:40]
    else:
        keys = list(range(min(len(content), 5))) if isinstance(content, list) else []
    for key in keys:
        yield from _places(content[key], (*place, key))


def _damaged_bytes(content: bytes, chance: random.Random) -> bytes:
    way = chance.randrange(4)
    if way == 0:
        return content[: chance.randrange(len(content) + 1)]
    if way == 1:
        return b"\xef\xbb\xbf" + content
    if way == 2 and content:
        changed = bytearray(content)
        for _ in range(chance.choice([1, 5, 50])):
            changed[chance.randrange(len(changed))] = chance.randrange(256)
        return bytes(changed)
    return chance.choice(BYTES)
