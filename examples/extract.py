"""Extract people from sentences, as JSON that a schema allows whatever the model would write.

    gpt2onnx export openai-community/gpt2 gpt2-int8
    python examples/extract.py gpt2-int8 "Grace Hopper, 85, was an admiral."

One line of JSON a sentence; without sentences they are read from standard input. The schema holds
the form, examples in the prompt show the task; what is right is the model's own doing.
Needs gpt2onnx[structured].
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import gpt2onnx

SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 1, "maxLength": 40},
        "age": {"type": "integer", "minimum": 0, "maximum": 120},
        "job": {"enum": ["scientist", "engineer", "officer", "writer", "other"]},
    },
    "required": ["name", "age", "job"],
    "additionalProperties": False,
}
EXAMPLES = {
    "Ada Lovelace was 36 and wrote programs.": {
        "name": "Ada Lovelace",
        "age": 36,
        "job": "engineer",
    },
    "At 54, Mary Shelley had written seven novels.": {
        "name": "Mary Shelley",
        "age": 54,
        "job": "writer",
    },
}


def prompt(sentence: str) -> str:
    """The examples, then the sentence, whose JSON is to come."""
    shown = {text: json.dumps(person) for text, person in EXAMPLES.items()} | {sentence: ""}
    return "\n".join(f"Text: {text}\nJSON:\n{answer}" for text, answer in shown.items())


def extract(model: gpt2onnx.Model, sentences: Iterable[str]) -> Iterator[Mapping[str, Any]]:
    """What each sentence says; a batch, so that all share each step."""
    prompts = [prompt(sentence) for sentence in sentences]
    for written in model.generate(prompts, json_schema=SCHEMA, max_new_tokens=200):
        if written.finish_reason not in ("eos", "stop"):
            raise SystemExit(f"extract: cut short after {written.text!r}")
        yield json.loads(written.text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="a model folder, or demo")
    parser.add_argument("sentences", nargs="*", metavar="SENTENCE")
    arguments = parser.parse_args()
    sentences = arguments.sentences or [line.strip() for line in sys.stdin if line.strip()]
    for person in extract(gpt2onnx.load(arguments.model), sentences):
        print(json.dumps(person))


if __name__ == "__main__":
    try:
        main()
    except gpt2onnx.Gpt2OnnxError as error:
        sys.exit(f"extract: {error}")
