"""Plain decoding: a token a step. Knows the decoder's seam and samplers; knows no text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from gpt2onnx.runtime.decoder.protocol import Decoder, Read, Result, kept_by_slide
from gpt2onnx.runtime.decoding.sequence import Step, TokenSequence
from gpt2onnx.runtime.decoding.task import DrawingTask, Task, by_prompt
from gpt2onnx.samplers import Draw, draw_alike
from gpt2onnx.samplers.top_logits import ALL


class PlainTask(DrawingTask):
    """One prompt's sequences, each of which reads its newest token and chooses the next."""

    def __init__(
        self, decoder: Decoder[Any], sequences: Iterable[TokenSequence], whole: bool = True
    ) -> None:
        """`whole` is whether steps must have all logits."""
        super().__init__(decoder, sequences)
        self._whole = whole

    def next_read(self, sequence: TokenSequence) -> Read:
        row, (temperature, outside) = self.row(sequence), sequence.sampler.sums
        if self.is_full(sequence):
            # GPT-2's positions are absolute: what stays moves to other ones, so its cache is void.
            self.decoder.truncate(row, 0)
            kept = sequence.history[-kept_by_slide(self.decoder.n_positions) :]
            return Read(row, kept, prompt=True, temperature=temperature, outside=outside)
        needs = ALL if self._whole else sequence.sampler.needs
        ids = sequence.history[-1:]
        return Read(row, ids, needs=needs, temperature=temperature, outside=outside)

    def prepare(self, results: Sequence[Result]) -> None:
        """Come to `draws` that may be made together with other tasks', before `take` takes results.

        What follows the prompt, `take` draws alone.
        """
        if not self.reads_prompt:
            for sequence, result in zip(self.live, results, strict=True):
                sequence.prepare(result)

    @property
    def draws(self) -> Iterator[Draw]:
        """Those that `prepare` came to."""
        return (each.prepared for each in self.live if isinstance(each.prepared, Draw))

    def sample(self, sequence: TokenSequence, result: Result, in_time: bool) -> list[Step]:
        has_room = sequence.slides or not self.is_full(sequence)
        return [sequence.sample_from(result, -1, has_room, in_time)]


def plain_tasks(
    decoder: Decoder[Any], sequences: Sequence[TokenSequence], whole: bool = True
) -> list[PlainTask]:
    """A task for each prompt; those of one prompt stand side by side."""
    return [PlainTask(decoder, group, whole) for group in by_prompt(sequences)]


def draw_together(tasks: Iterable[Task[Any]]) -> None:
    """Make the draws that plain tasks among these have come to, where several are alike at once."""
    draw_alike(draw for task in tasks if isinstance(task, PlainTask) for draw in task.draws)
