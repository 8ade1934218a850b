"""JSON schemas: what is allowed is what the specification allows, by jsonschema or by hand."""

from __future__ import annotations

import datetime
import itertools
import json
import random
import re
from contextlib import suppress
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from gpt2onnx.errors import ParameterError
from gpt2onnx.runtime.structured.grammars import Grammar
from gpt2onnx.runtime.structured.json_patterns import MOMENTS, names
from gpt2onnx.samplers import GenerationParams
from tests.raising import raises
from tests.runtime.structured.test_grammars import COMPILER, EOS, TOKENIZER, VOCAB, complete, write
from tests.runtime.text.test_stop_strings import _byte_symbol

jsonschema = pytest.importorskip("jsonschema")
BYTES = [TOKENIZER.token_to_id(_byte_symbol(byte)) for byte in range(256)]
LARGE = 2**53


def grammar(schema: Any, **given: Any) -> Grammar:
    found = COMPILER.grammar(GenerationParams(json_schema=schema, eos_token_id=EOS, **given))
    assert found
    return found


def accepts(schema: Any, text: str, **given: Any) -> bool:
    return reads(grammar(schema, **given), text)


def reads(compiled: Grammar, text: str) -> bool:
    matcher = compiled.start()
    return matcher.consume_tokens([BYTES[b] for b in text.encode()]) and matcher.is_accepting()


def refused(schema: Any) -> str:
    with pytest.raises(ParameterError) as raised:
        grammar(schema)
    assert "\n" not in str(raised.value)
    return str(raised.value)


# --- numbers --------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [0, -1, LARGE - 1, LARGE, -LARGE, LARGE + 2, 2**60, 10**18])
def test_an_integer_is_itself(value: int) -> None:
    for schema in ({"const": value}, {"enum": ["x", value]}, {"anyOf": [{"const": value}]}):
        assert accepts(schema, str(value))
        assert not any(accepts(schema, str(value + n)) for n in (-2, -1, 1, 2))


@pytest.mark.parametrize("value", [LARGE + 1, -LARGE - 1, 2**63 - 1, 2**64, 10**30, -(10**400)])
def test_an_integer_that_would_be_another_is_refused(value: int) -> None:
    for schema, place in (
        ({"const": value}, "#/const"),
        ({"enum": [1, [{"a": value}]]}, "#/enum"),
        ({"type": "array", "items": {"anyOf": [{"const": value}]}}, "#/items/anyOf/0/const"),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"enum": [value]}}}, "#/$defs/a/enum"),
        (
            {"properties": {"x": {"prefixItems": [{"const": value}]}}},
            "#/properties/x/prefixItems/0",
        ),
    ):
        assert f"at {place}" in refused(schema)


@pytest.mark.parametrize("text", ["0.1", "1e-7", "-2.5", "123456.789", "0.30000000000000004"])
def test_a_decimal_is_itself(text: str) -> None:
    plain = format(Decimal(text), "f")
    assert accepts(f'{{"const": {text}}}', plain)
    assert not accepts(f'{{"const": {text}}}', plain + "1")


@pytest.mark.parametrize("text", ["0.10000000000000000001", "12345678901234567890.5", "1e400"])
def test_a_decimal_that_would_be_another_is_refused(text: str) -> None:
    assert f"got {Decimal(text)}" in refused(f'{{"const": {text}}}')


def test_zero_and_one_have_equal_texts() -> None:
    assert accepts({"const": 1.0}, "1")
    assert accepts({"const": 1}, "1")
    assert json.loads("-0") == 0 == -0.0
    assert accepts('{"const": -0.0}', "-0")


KINDS = ["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"]
HOLDS = {
    "minimum": Decimal.__ge__,
    "maximum": Decimal.__le__,
    "exclusiveMinimum": Decimal.__gt__,
    "exclusiveMaximum": Decimal.__lt__,
}
LIMITS = [
    0,
    1,
    -1,
    10,
    0.5,
    -0.5,
    0.1,
    1.5,
    1e6,
    LARGE,
    LARGE + 1,
    LARGE + 3,
    -LARGE - 1,
    2**63 - 1,
]
NUMBERS = ["0", "1", "-1", "2", "9", "10", "0.5", "-0.5", "0.1", "0.05", "1.49", "999999.5"]
NUMBERS += [str(sign * (LARGE + n)) for sign in (1, -1) for n in range(-2, 6)]


@pytest.mark.parametrize("type_", ["integer", "number"])
def test_bounds_let_nothing_else_through(type_: str) -> None:
    """And let all other integers through, but for some that are next to a large bound."""
    rng = random.Random(0)
    for _ in range(120):
        bounds = {kind: rng.choice(LIMITS) for kind in rng.sample(KINDS, rng.randint(1, 3))}
        try:
            compiled = grammar({"type": type_, **bounds})
        except ParameterError:
            continue
        for text in NUMBERS:
            accepted, value = reads(compiled, text), Decimal(text)
            fits = type_ == "number" or value == int(value)
            holds = fits and all(
                HOLDS[kind](value, Decimal(str(limit))) for kind, limit in bounds.items()
            )
            assert holds or not accepted, (bounds, text)
            near = any(abs(value - Decimal(str(limit))) <= 2 for limit in bounds.values())
            if type_ == "integer" and not (near and abs(value) >= LARGE - 2):
                assert accepted or not holds, (bounds, text)


@pytest.mark.parametrize(
    ("bounds", "right", "wrong"),
    [
        ({"exclusiveMinimum": 0, "maximum": 0.1}, ["0.1", "0.05", "0.0001"], ["0", "0.0", "0.2"]),
        ({"exclusiveMinimum": 1, "exclusiveMaximum": 1.5}, ["1.1", "1.01"], ["1", "1.0", "1.5"]),
        ({"exclusiveMaximum": 0, "minimum": -0.5}, ["-0.5", "-0.1"], ["0", "-0", "-0.6"]),
        ({"exclusiveMinimum": 0, "exclusiveMaximum": 1}, ["0.9", "0.99", "0.1"], ["0", "1"]),
        ({"exclusiveMinimum": 0}, ["0.1", "5", "1000000"], ["0", "-1"]),
    ],
    ids=str,
)
def test_what_is_excluded(bounds: dict[str, Any], right: list[str], wrong: list[str]) -> None:
    for schema in (
        {"type": "number", **bounds},
        {"allOf": [{"type": "number"}, *({key: value} for key, value in bounds.items())]},
    ):
        assert [text for text in [*right, *wrong] if accepts(schema, text)] == right


@pytest.mark.parametrize("type_", ["integer", "number", ["integer", "null"]], ids=str)
@pytest.mark.parametrize("limit", [LARGE, LARGE + 4, 10**17, 2**62, 2**63 - 1024], ids=str)
def test_a_large_number_is_excluded(type_: Any, limit: int) -> None:
    for sign in (1, -1):
        for kind in ("exclusiveMinimum", "exclusiveMaximum"):
            try:
                compiled = grammar({"type": type_, kind: sign * limit})
            except ParameterError:
                continue
            inside = 1 if kind == "exclusiveMinimum" else -1
            assert not reads(compiled, str(sign * limit))
            assert not reads(compiled, str(sign * limit - inside))
            assert reads(compiled, str(sign * limit + inside * 100_000)) or limit > 8 * 10**18


@pytest.mark.parametrize("text", ["1e400", "-1e400", "1e999999999", "-1e999999999", "1e-999999999"])
def test_numbers_of_any_size_are_quick(text: str) -> None:
    for key in [*KINDS, "multipleOf", "const", "maxItems", "minLength"]:
        for type_ in ("integer", "number"):
            schema = f'{{"type": "{type_}", "{key}": {text}}}'
            branches = '[{"$ref": "#/$defs/a"}, {"const": 1}]'
            tagged = f'{{"oneOf": {branches}, "$defs": {{"a": {schema}}}}}'
            for each in (schema, tagged):
                with suppress(ParameterError):
                    grammar(each)


def test_the_whole_range_of_64_bits_is_no_error() -> None:
    for low, high in ((-(2**63), 2**63 - 1), (0, 2**64 - 1)):
        schema = {"type": "integer", "minimum": low, "maximum": high}
        assert accepts(schema, "9223372036854774784")
        assert accepts({"properties": {"id": schema}, "type": "object"}, '{"id": 12}')
        assert not accepts(schema, str(high + 1))
        assert not accepts(schema, str(low - 1))


def test_multiples() -> None:
    assert accepts({"type": "integer", "multipleOf": 7}, "21")
    assert accepts({"type": "number", "multipleOf": 1.1}, "3.3")
    assert not accepts({"type": "number", "multipleOf": 1.1}, "3.2")
    for multiple in (LARGE + 1, 100_003, 1e-30, 0, -1):
        assert "at #/multipleOf" in refused({"type": "number", "multipleOf": multiple})
    several = {"allOf": [{"type": "integer", "multipleOf": 65537}, {"multipleOf": 65539}]}
    assert "got 65537, 65539" in refused(several)


# --- what is begun is finished --------------------------------------------------------------------

KEYS = ["a", "b", "ab", "s"]
PATTERNS = ["^s$", "^(a|b)$", "^a", "b$", "^x", "^[a-z]+$", ".*", "^ab?$", "^$"]


def scalar(rng: random.Random) -> dict[str, Any]:
    kind = rng.choice(["number", "integer", "string", "enum"])
    if kind == "enum":
        return {"enum": rng.sample([1, "a", None, True, [1], {"a": 1}, 0.5, [], {}], 2)}
    if kind == "string":
        return {"type": kind, "maxLength": rng.randint(0, 3), "pattern": rng.choice(["^a", "b$"])}
    multiple = {"multipleOf": rng.choice([1, 2, 5])} if rng.random() < 0.4 else {}
    bounds = {each: rng.choice([0, 1, 2, 10, 0.5]) for each in rng.sample(KINDS, 2)}
    return {"type": kind, **bounds, **multiple}


def any_schema(rng: random.Random, depth: int = 0) -> dict[str, Any]:
    kind = rng.random()
    if depth > 1 or kind < 0.25:
        return scalar(rng)
    if kind < 0.35:
        return {"anyOf": [any_schema(rng, depth + 1) for _ in range(2)]}
    if kind < 0.45:
        return {"type": "array", "items": any_schema(rng, depth + 1), "maxItems": rng.randint(0, 2)}
    if kind < 0.5:
        return {"allOf": [any_schema(rng, depth + 1), any_schema(rng, depth + 1)]}

    def inner(pool: list[str], most: int) -> dict[str, Any]:
        keys = rng.sample(pool, rng.randint(0, most))
        return {key: any_schema(rng, depth + 1) for key in keys}

    schema = {"type": "object", "properties": inner(KEYS, 3)}
    schema["additionalProperties"] = rng.choice([False, False, True, any_schema(rng, depth + 1)])
    schema["patternProperties"] = inner(PATTERNS, 2)
    schema["required"] = rng.sample(KEYS, rng.randint(0, 1))
    if rng.random() < 0.3:
        schema[rng.choice(["minProperties", "maxProperties"])] = rng.randint(0, 3)
    return schema


def walk(compiled: Grammar, rng: random.Random) -> str | None:
    """A text by tokens drawn of those that may follow; None where it has no end in sight."""
    matcher, tokens = compiled.start(), []
    short = {BYTES[byte] for byte in b'"}]015,'}
    for _ in range(120):
        allowed = np.flatnonzero(compiled.allowed(matcher)[: VOCAB - 3])
        if EOS in allowed and (len(allowed) == 1 or rng.random() < 0.3):
            return str(TOKENIZER.decode(tokens))
        choices = [int(id_) for id_ in allowed if id_ != EOS]
        closing = [id_ for id_ in choices if id_ in short]
        tokens.append(rng.choice(closing if closing and rng.random() < 0.7 else choices))
        matcher.consume_token(tokens[-1])
    return None


def test_nothing_begins_that_can_not_be_finished() -> None:
    """Random texts of random schemas: every one that ends is valid, and none runs into a wall."""
    rng, finished = random.Random(1), 0
    for _ in range(250):
        schema = any_schema(rng)
        try:
            compiled = grammar(schema)
        except ParameterError:
            continue
        judge = jsonschema.Draft202012Validator(schema)
        for _ in range(3):
            text = walk(compiled, rng)
            if text is not None:
                judge.validate(json.loads(text))
                finished += 1
    assert finished > 200


def test_a_pattern_of_names_that_are_all_named() -> None:
    schema = {
        "type": "object",
        "properties": {"s": {"type": "integer"}},
        "required": ["s"],
        "additionalProperties": False,
        "patternProperties": {"^s$": {"maximum": 5}},
    }
    assert set(complete(write(60, json_schema={**schema, "minProperties": 1}))) > {'{"s": 5}'}
    assert not accepts(schema, '{"s": 6}')
    more = {**schema, "patternProperties": {"^(s|t)$": {"maximum": 5}, "^t$": {"minimum": 4}}}
    assert accepts(more, '{"s": 5, "t": 4}')
    assert not accepts(more, '{"s": 5, "t": 3}')


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("^s$", ("s",)),
        ("^(a|b|ab?)$", ("a", "ab", "b")),
        ('^[\\\\"é\n]$', ("\n", '"', "\\", "é")),
        ("^a{2,3}$", ("aa", "aaa")),
        ("^$", ("",)),
        ("^[^\\s\\S]$", ()),
        ("^s", None),
        ("s", None),
        (".*", None),
        ("^.$", None),
        ("^a*$", None),
        ("(", None),
    ],
)
def test_the_names_of_a_pattern(pattern: str, expected: tuple[str, ...] | None) -> None:
    assert names(pattern) == expected


def test_keys_that_may_come_twice_are_not_counted() -> None:
    assert accepts({"type": "object", "minProperties": 1}, '{"a": 1}')
    assert "at #/minProperties: expected at most one more" in refused(
        {"type": "object", "minProperties": 2}
    )


# --- what restricts nothing -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "format_",
    ["password", "path", "binary", "byte", "uri-reference", "iri", "json-pointer", "regex", "x"],
)
def test_unknown_formats_restrict_nothing(format_: str) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string", "format": format_}}}
    assert accepts(schema, '{"a": "any text [("}')
    assert accepts({"format": format_}, "1")


@pytest.mark.parametrize(
    "idle",
    [
        {"uniqueItems": False},
        {"uniqueItems": True, "maxItems": 1},
        {"title": "x", "description": "y", "$comment": "z", "deprecated": True, "readOnly": True},
        {"default": {"const": LARGE + 1}, "examples": [{"format": "date"}, 1]},
        {"contentMediaType": "text/plain", "contentEncoding": "base64", "contentSchema": {}},
        {"propertyNames": {}, "not": False, "dependentRequired": {}, "if": {"const": 2}},
        {"then": {"const": 2}, "minContains": 2, "unevaluatedProperties": True},
        {"nullable": True, "discriminator": {"propertyName": "x"}, "example": LARGE + 1},
        {"maxLength": 2**31, "maxItems": 10**30, "$dynamicAnchor": "x"},
    ],
    ids=str,
)
def test_what_restricts_nothing_is_ignored(idle: dict[str, Any]) -> None:
    for text in ("1", '"ab"', "[2]", '{"c": 3}'):
        assert accepts({**idle, "type": ["integer", "string", "array", "object"]}, text)


def test_keywords_names_are_names_of_properties_too() -> None:
    inner = {"format": {"const": "password"}, "const": {"type": "integer"}, "oneOf": {"const": 1}}
    schema = {"type": "object", "properties": inner, "additionalProperties": False}
    assert accepts(schema, '{"format": "password", "const": 5, "oneOf": 1}')
    assert accepts({"const": {"format": "x", "maxItems": 2.0}}, '{"format": "x", "maxItems": 2}')


def test_schemas_may_stand_anywhere_that_is_referred_to() -> None:
    parts = {"schemas": {"X": {"type": "string", "format": "password", "maxLength": 2.0}}}
    schema = {"components": parts, "$ref": "#/components/schemas/X"}
    assert accepts(schema, '"ab"')
    assert not accepts(schema, '"abc"')


@pytest.mark.parametrize("key", ["minLength", "maxLength", "minItems", "maxItems"])
def test_counts_may_be_written_as_decimals(key: str) -> None:
    type_, texts = ("string", ['"a"', '"ab"', '"abc"']) if "Length" in key else ("array", None)
    texts = texts or ["[1]", "[1, 1]", "[1, 1, 1]"]
    found = [accepts({"type": type_, key: 2.0}, text) for text in texts]
    assert found == ([False, True, True] if key.startswith("min") else [True, True, False])


# --- dates and times ------------------------------------------------------------------------------


def test_dates_are_real_ones() -> None:
    pattern = re.compile(MOMENTS["date"])
    for year, (month, day) in itertools.product(
        [*range(120), *range(1890, 2110), 2400, 9999],
        [(2, 28), (2, 29), (2, 30), (4, 31), (12, 31)],
    ):
        text = f"{year:04}-{month:02}-{day:02}"
        try:
            datetime.date.fromisoformat(text)
            real = True
        except ValueError:
            real = False
        assert bool(pattern.match(text)) == real, text
    date = {"type": "string", "format": "date"}
    assert accepts(date, '"2024-02-29"')
    assert not accepts(date, '"2021-02-29"')
    both = {"type": "string", "format": "date", "pattern": "^2021"}
    assert accepts(both, '"2021-03-01"')
    assert not accepts(both, '"2024-02-29"')


@pytest.mark.parametrize(
    ("format_", "text", "expected"),
    [
        ("time", "23:59:59Z", True),
        ("time", "08:30:06.283185+05:30", True),
        ("time", "24:00:00Z", False),
        ("time", "23:59:60Z", True),
        ("time", "22:59:60Z", False),
        ("time", "12:00:00", False),
        ("time", "12:00:00+24:00", False),
        ("date-time", "1963-06-19T08:30:06.28Z", True),
        ("date-time", "1998-12-31T23:59:60Z", True),
        ("date-time", "1998-12-30T23:59:60Z", False),
        ("date-time", "2021-02-29T00:00:00Z", False),
        ("date-time", "2020-02-29t00:00:00z", True),
        ("date-time", "1963-06-19 08:30:06Z", False),
    ],
)
def test_times(format_: str, text: str, expected: bool) -> None:
    assert accepts({"type": "string", "format": format_}, f'"{text}"') == expected


# --- oneOf ----------------------------------------------------------------------------------------


def tagged(key: str, tag: Any) -> dict[str, Any]:
    return {"type": "object", "properties": {key: tag}, "required": [key]}


CLOSED = {"additionalProperties": False}


@pytest.mark.parametrize(
    "branches",
    [
        [{"const": 1}, {"const": 2}],
        [{"type": "integer"}, {"type": "string"}, {"const": None}],
        [{"enum": [1, "a"]}, {"enum": [2.0, "b"]}],
        [{"$ref": "#/$defs/one"}, {"$ref": "#/$defs/two"}],
        [{"$ref": "#/$defs/one"}, {"allOf": [{"$ref": "#/$defs/two"}]}],
        [tagged("k", {"const": 1}) | CLOSED, tagged("k", {"enum": [2, 3]}) | CLOSED],
        [tagged("k", tagged("j", {"const": "a"})), tagged("k", tagged("j", {"const": "b"}))],
        [{"anyOf": [{"const": 1}, {"const": 2}]}, {"const": 3}],
    ],
    ids=str,
)
def test_one_of_what_can_be_told_apart(branches: list[Any]) -> None:
    parts = {"one": tagged("k", {"const": 1}), "two": tagged("k", {"const": 2})}
    schema = {"oneOf": branches, "$defs": parts}
    judge = jsonschema.Draft202012Validator(schema)
    compiled, rng = grammar(schema), random.Random(0)
    for text in filter(None, (walk(compiled, rng) for _ in range(20))):
        judge.validate(json.loads(text))


@pytest.mark.parametrize(
    "branches",
    [
        [{"type": "integer"}, {"type": "number"}],
        [{"const": 1}, {"const": 1.0}],
        [{"enum": [1, 2]}, {"enum": [2, 3]}],
        [{"properties": {"k": {"const": 1}}}, {"properties": {"k": {"const": 2}}}],
        [{"$ref": "#"}, {"$ref": "#"}],
        [True, {"type": "string"}],
    ],
    ids=str,
)
def test_one_of_what_can_not_be_told_apart_says_so(branches: list[Any]) -> None:
    error = refused({"oneOf": branches})
    assert "oneOf's branches must be told apart" in error or "$ref" in str(branches)


def test_one_of_that_refers_to_itself_again_and_again_ends() -> None:
    again = {"$ref": "#/$defs/a"}
    branches = [again, {"type": "array", "items": again}, {"allOf": [again, again]}, again]
    assert refused({**again, "$defs": {"a": {"oneOf": branches, "anyOf": branches}}})


# --- how it is laid out, and odd schemas ----------------------------------------------------------


def test_layouts() -> None:
    schema = {"const": {"a": [1, 2]}}
    assert accepts(schema, '{"a": [1, 2]}')
    assert accepts(schema, '{"a":[1,2]}', json_layout="compact")
    assert not accepts(schema, '{"a": [1, 2]}', json_layout="compact")
    assert accepts(schema, '{ "a":\n[1 ,2]}', json_layout="free")
    own = {"item_separator": ";"}
    assert accepts({**schema, "x-guidance": own}, '{"a":[1;2]}', json_layout="compact")
    with raises(ParameterError, parameters={"json_layout": "free"}):
        GenerationParams(json_layout="free")
    with raises(ParameterError, parameters={"json_layout": "wide"}):
        GenerationParams(json_layout="wide", json_schema={})  # type: ignore[arg-type]


def nested(depth: int) -> Any:
    return {"items": nested(depth - 1)} if depth else {}


def cyclic() -> Any:
    schema: dict[str, Any] = {"type": "array"}
    schema["items"] = schema
    return schema


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        (nested(400), "json_schema"),
        ('{"items":' * 5000 + "{}" + "}" * 5000, "json_schema"),
        (cyclic(), "json_schema="),
        ({1: {}}, "keys must be strings, not 1"),
        ({"properties": {None: {}}}, "keys must be strings, not None"),
        ({"const": float("inf")}, "json_schema="),
        ('{"const": NaN}', "NaN is no number of JSON's"),
        ({"const": Decimal("1.5")}, "json_schema=.*Decimal is not JSON"),
        ({"const": 10**5000}, "json_schema="),
        ('{"const": 1' + "0" * 5000 + "}", "json_schema="),
        ({"minimum": 1e300}, "at #/minimum: expected a number within 9e18"),
        ({"minLength": 10**30}, "at #/minLength: expected a count that a text can have"),
        ({"minItems": -1}, "minItems"),
        ({"allOf": {}}, "allOf must be an array"),
        ({"items": 5}, "schema must be an object or boolean"),
        ({"type": "string", "pattern": "(?=a)"}, "json_schema="),
        ({"x-guidance": {"nope": 1}}, "unknown field"),
        ({"enum": ["x" * 600_000]}, "has 600,0.. characters: expected at most 500,000"),
        ({"contains": {}}, "Unimplemented keys"),
    ],
    ids=map(str, range(19)),
)
def test_odd_schemas_are_named_errors(schema: Any, expected: str) -> None:
    assert re.search(expected, refused(schema))


def test_a_byte_order_mark_is_no_part_of_a_schema_or_grammar() -> None:
    assert accepts('\ufeff{"const": 1}', "1")
    assert GenerationParams(grammar='\ufeffstart: "a"').grammar == 'start: "a"'
