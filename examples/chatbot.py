"""Talk to a DialoGPT-like model in a terminal; an empty line or Ctrl-D ends it.

    gpt2onnx export microsoft/DialoGPT-small dialogpt-int8
    python examples/chatbot.py dialogpt-int8 [--seed 7]

DialoGPT reads the turns of a conversation with an end token behind each, and writes the next one.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator

import gpt2onnx

LONGEST = 60  # tokens of an answer


class Conversation:
    """The turns so far, as token ids, and the model that answers."""

    def __init__(self, model: gpt2onnx.Model, seed: int | None = None) -> None:
        self.model, self.seed = model, seed
        self.end = model.params({}).eos_token_ids[0]
        self.turns: list[list[int]] = []

    def answer(self, text: str) -> Iterator[str]:
        """The pieces of an answer as they come."""
        self.turns.append([*self.model.tokenizer.encode(text).ids, self.end])
        self.forget()
        prompt = [token for turn in self.turns for token in turn]
        reply = []
        for token in self.model.stream(
            prompt,
            max_new_tokens=LONGEST,
            do_sample=True,
            temperature=0.8,
            top_p=0.95,
            seed=self.seed,
            overflow="truncate",
        ):
            reply.append(token.id)
            yield token.text
        self.turns.append(reply if reply[-1] == self.end else [*reply, self.end])

    def forget(self) -> None:
        """Drop the oldest turns until the others leave room for an answer."""
        room = self.model.decoder.n_positions - LONGEST
        while len(self.turns) > 1 and sum(map(len, self.turns)) > room:
            del self.turns[0]


def talk(conversation: Conversation, lines: Iterable[str]) -> None:
    """Answer each line until one is empty."""
    for line in lines:
        if not line.strip():
            break
        for piece in conversation.answer(line.strip()):
            print(piece, end="", flush=True)
        print()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="a model folder, or demo")
    parser.add_argument("--seed", type=int, help="the same seed gives the same answers")
    arguments = parser.parse_args()
    talk(Conversation(gpt2onnx.load(arguments.model), arguments.seed), sys.stdin)


if __name__ == "__main__":
    try:
        main()
    except gpt2onnx.Gpt2OnnxError as error:
        sys.exit(f"chatbot: {error}")
