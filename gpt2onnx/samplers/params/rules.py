"""Which parameters go together: what each needs to have an effect, and what excludes what.

Two tables over a plain mapping of names to values: what a parameter needs stands with its field,
what excludes what stands here. A problem that they find is an error where the caller gave the
parameter, and where it is only the model's default, the default gives way.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final, Literal, NamedTuple

from gpt2onnx.errors import Advised, Given, ParameterError
from gpt2onnx.samplers.params.parameter import Parameter

Values = Mapping[str, Any]

LOOKAHEAD: Final = (
    "lookahead_window_size",
    "lookahead_ngram_size",
    "lookahead_guess_set_size",
)
DRAFTS: Final = ("prompt_lookup_num_tokens", *LOOKAHEAD)
CONSTRAINTS: Final = ("regex", "json_schema", "grammar", "choices")

_ENDS_ITSELF = "the constraint alone says where the text may end"
_ONE_TEXT = "mirostat and XTC follow one text, and beams are several"


class Exclusion(NamedTuple):
    """Parameters that don't go with `one`, and why.

    `gives_way` says which of two is left out where it is a default: the other one, or whichever.
    """

    one: str
    others: Mapping[str, str]
    gives_way: Literal["neither", "other", "default"] = "neither"


def _all(names: Collection[str], why: str) -> dict[str, str]:
    return dict.fromkeys(names, why)


EXCLUDES: Final = (
    Exclusion("max_new_tokens", {"max_length": "the second counts the prompt too"}, "default"),
    Exclusion("min_new_tokens", {"min_length": "the second counts the prompt too"}, "default"),
    Exclusion(
        "num_beams",
        {
            "best_of": "both say which texts are best",
            "return_alternatives": "both say which texts come",
            "penalty_alpha": "contrastive search follows one text",
            **_all(DRAFTS, "a draft foresees one sequence, and beams go several ways"),
        },
        "other",
    ),
    Exclusion(
        "num_beams",
        {
            "overflow": "beams can't go on past the last position",
            "mirostat_mode": _ONE_TEXT,
            "xtc_probability": _ONE_TEXT,
            "stop_fn": "which beam becomes the text is known only at the end",
            "guidance_scale": "beams are searched by the model's own scores",
            **_all(CONSTRAINTS, "beams keep no constraint"),
        },
    ),
    Exclusion(
        "num_beam_groups",
        {
            "do_sample": "groups are searched, not drawn",
            "force_words_ids": "each group would have to contain them",
        },
    ),
    Exclusion(
        "force_words_ids",
        {
            "do_sample": "phrases are searched for, not drawn",
            "max_time": "time may be over before they have come",
        },
    ),
    Exclusion("return_alternatives", {"best_of": "both say which texts come"}),
    Exclusion(
        "prefill_ids",
        {
            "num_beams": "beams begin with the text, and each with tokens of its own",
            "return_alternatives": "both say how the text begins",
            "mirostat_mode": "mirostat goes by how surprising each token was when it was chosen",
        },
    ),
    Exclusion("do_sample", {"penalty_alpha": "contrastive search draws nothing"}, "other"),
    Exclusion(
        "penalty_alpha",
        {
            "return_alternatives": "contrastive search follows one text",
            "overflow": "contrastive search ends with the positions",
            "guidance_scale": "each chooses in its own way",
        },
    ),
    Exclusion("guidance_scale", {"overflow": "both contexts end with the model's positions"}),
    Exclusion("overflow", _all(DRAFTS, "drafts end with the model's positions"), "other"),
    Exclusion(
        "penalty_alpha",
        _all(DRAFTS, "contrastive search reads several candidates for each token, not a draft"),
        "other",
    ),
    Exclusion("guidance_scale", _all(DRAFTS, "drafts are judged without guidance"), "other"),
    Exclusion(
        "prompt_lookup_num_tokens", _all(LOOKAHEAD, "both say where drafts come from"), "default"
    ),
    *(
        Exclusion(
            name,
            {
                **_all(CONSTRAINTS[place + 1 :], "a text is held to one of them"),
                "stop_strings": "they would cut the text short of the constraint, which ends it by "
                "itself",
                **_all(("min_new_tokens", "min_length", "forced_eos_token_id"), _ENDS_ITSELF),
                "forced_bos_token_id": "the constraint alone says what comes first",
            },
        )
        for place, name in enumerate(CONSTRAINTS)
    ),
)
# What a call has beside its parameters, which takes part in the same way.
DRAFT_EXCLUDES: Final = Exclusion(
    "draft",
    {
        "num_beams": "a draft foresees one sequence, and beams go several ways",
        "overflow": "drafts end with the model's positions",
        "penalty_alpha": "contrastive search reads several candidates for each token, not a draft",
        "guidance_scale": "drafts are judged without guidance",
        **_all(DRAFTS, "both say where drafts come from"),
    },
)
STREAM_EXCLUDES: Final = Exclusion(
    "stream",
    {
        "num_beams": "beams settle on their tokens at the end, and a stream shows each as it comes",
        "best_of": "which texts are best is known at the end, and a stream shows each token as it "
        "comes",
    },
)


class Problem(NamedTuple):
    """What is wrong with some values, and which of them are left out where they are defaults."""

    error: ParameterError
    gives_way: tuple[str, ...]


class Rules:
    """The tables, over the parameters by their names."""

    def __init__(self, table: Mapping[str, Parameter]) -> None:
        self._table = table
        self._warpers = [name for name, each in table.items() if each.warping]
        self._excludes = (*EXCLUDES, self._mirostat(), self._contrastive())

    def check(self, values: Values) -> None:
        """Raises ParameterError for the first of `values` that has no effect beside the others."""
        for problem in self._problems(values):
            raise problem.error

    def check_beside(self, exclusion: Exclusion, values: Values) -> None:
        """Raises ParameterError for what doesn't go with an argument of the call's own."""
        for problem in self._excluded(Given(exclusion.one), exclusion, values):
            raise problem.error

    def settled(self, values: Values, given: Collection[str]) -> dict[str, Any]:
        """The values without those defaults that have no effect, or that a given one excludes."""
        kept = dict(values)
        while idle := self._idle(kept, given):
            del kept[idle]
        return kept

    def is_on(self, name: str, values: Values) -> bool:
        """Whether a parameter is given, and isn't turned off."""
        value = values.get(name)
        off = self._table[name].off if name in self._table else ()
        return value is not None and not any(_equals(value, each) for each in off)

    def _idle(self, values: Values, given: Collection[str]) -> str | None:
        """A default that gives way, if there is one."""
        names = (name for problem in self._problems(values) for name in problem.gives_way)
        return next((name for name in names if name not in given), None)

    def _problems(self, values: Values) -> Iterator[Problem]:
        for exclusion in self._excludes:
            if self.is_on(exclusion.one, values):
                one = Given(exclusion.one, values[exclusion.one])
                yield from self._excluded(one, exclusion, values)
        for name in values:
            yield from self._needing(name, values)
        yield from self._out_of_order(values)

    def _excluded(self, one: Given, exclusion: Exclusion, values: Values) -> Iterator[Problem]:
        """`one` is on: what it excludes, and is on, too."""
        for name, why in exclusion.others.items():
            if self.is_on(name, values):
                other = Given(name, values[name])
                error = ParameterError(one, " with ", other, f": {why}; leave one of them out")
                ways = {"neither": (), "other": (name,), "default": (name, one.name)}
                yield Problem(error, ways[exclusion.gives_way])

    def _needing(self, name: str, values: Values) -> Iterator[Problem]:
        needs = self._table[name].needs
        if not needs or any(self.is_on(need, values) for need in needs):
            return
        wanted = [part for need in needs for part in (" or ", *self._when_on(need))][1:]
        error = ParameterError(
            Given(name, values[name]),
            *(" has no effect without ", *wanted, ": set that, or leave "),
            *(Given(name), " out"),
        )
        yield Problem(error, (name,))

    def _when_on(self, name: str) -> tuple[str | Given, ...]:
        """How to say that a parameter is on: do_sample=True, num_beams above 1."""
        off = self._table[name].off
        if off and off[0] is False:
            return (Advised(name, True),)
        return (Given(name), f" above {off[0]}") if off else (Given(name),)

    def _out_of_order(self, values: Values) -> Iterator[Problem]:
        """Warpers that a sampler_order leaves out."""
        order = values.get("sampler_order")
        if not isinstance(order, list | tuple):  # a default may be anything until it is checked
            return
        for name in (*self._warpers, "dynatemp_range"):
            warper = "temperature" if name == "dynatemp_range" else name
            if warper not in order and self.is_on(name, values):
                error = ParameterError(
                    Given(name, values[name]),
                    *(" has no effect while ", Given("sampler_order"), f" has no {warper!r}"),
                    *(": add it, or leave ", Given(name), " out"),
                )
                yield Problem(error, (name,))

    def _mirostat(self) -> Exclusion:
        """Mirostat truncates by itself: of the warpers it goes with the temperature alone."""
        replaced = {*self._warpers, "dynatemp_range", "sampler_order"} - {"temperature"}
        names = [name for name in self._table if name in replaced]
        return Exclusion("mirostat_mode", _all(names, "mirostat truncates by itself"), "other")

    def _contrastive(self) -> Exclusion:
        """Contrastive search draws nothing: what only a draw heeds doesn't go with it."""
        drawing = [name for name, each in self._table.items() if each.needs[:1] == ("do_sample",)]
        names = [name for name in drawing if "penalty_alpha" not in self._table[name].needs]
        return Exclusion("penalty_alpha", _all(names, "contrastive search draws nothing"), "other")


def _equals(value: object, other: object) -> bool:
    """Equality of plain values; what is compared member by member isn't plain."""
    return isinstance(value, bool | int | float | str) and value == other
