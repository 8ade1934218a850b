"""A configuration's agreement with the reference, and what ran its decode steps, and where."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from gpt2onnx.compare.record.grid import Configuration
from gpt2onnx.compare.record.schema import Absent, Flat

Nodes: TypeAlias = dict[str, dict[str, int]]  # how many of each operator, by provider
Verdict: TypeAlias = Literal["same", "near-ties", "differs"]


@dataclass(frozen=True)
class Ran:
    """Where a decode step ran: the session's provider, and its share of the nodes."""

    provider: str
    share: float
    copies: int
    captured: bool


@dataclass(frozen=True)
class Placement:
    """The same, with the nodes themselves."""

    ran: Flat[Ran]
    nodes: Nodes


@dataclass(frozen=True)
class Program:
    """What another runtime is: its version, and the graph that it ran, as the export calls it."""

    version: str
    graph: str | None


@dataclass(frozen=True)
class Figures:
    """How far logits are from the reference's, over all positions."""

    positions: int
    max_logit_difference: float
    logit_difference_p999: float
    kl_mean: float
    kl_p99: float
    top1_agreement: float


@dataclass(frozen=True)
class ByPosition:
    """Means over the texts that reach a position, each [positions of the longest text]."""

    kl: list[float]
    top1_agreement: list[float]


@dataclass(frozen=True)
class Same:
    """A text that is the reference's."""

    parts_at: None = None


@dataclass(frozen=True)
class Parting:
    """The first new token, from 0, that isn't the reference's; the text before, and both ways on.

    `margin` is by how much the reference's own logits prefer its token.
    """

    parts_at: int
    before: str
    reference: str
    candidate: str
    margin: float
    near_tie: bool


@dataclass(frozen=True)
class Partings:
    """What the texts come to."""

    texts_parted: int
    near_ties: int
    first_parting: int | None
    verdict: Verdict


@dataclass(frozen=True)
class Summary:
    """An agreement as each run repeats it: without texts and positions."""

    figures: Flat[Figures]
    partings: Flat[Partings]


@dataclass(frozen=True)
class Agreement:
    """How a configuration's answers agree with the reference's."""

    figures: Flat[Figures]
    by_position: ByPosition
    texts: list[Same | Parting]
    partings: Flat[Partings]

    @property
    def summary(self) -> Summary:
        return Summary(self.figures, self.partings)


@dataclass(frozen=True, kw_only=True)
class Answers:
    """A configuration's; where there is no agreement, `reason` says why.

    What ran has a placement, or where it was another runtime's, which tells none, a program.
    Raises ValueError for "ok" without answers, and for "unavailable" without a reason.
    """

    configuration: Flat[Configuration]
    status: Literal["ok", "unavailable"]
    reason: Absent[str] = None
    placement: Placement | None
    program: Absent[Program] = None
    agreement: Agreement | None

    def __post_init__(self) -> None:
        if self.status == "ok" and not ((self.placement or self.program) and self.agreement):
            raise ValueError(
                "expected a placement and an agreement where the status is 'ok', or a runtime's "
                "program and one"
            )
        if (self.status == "ok") != (self.reason is None):
            raise ValueError("expected a reason where the status is 'unavailable', and only there")


def unavailable(
    configuration: Configuration, reason: str, placement: Placement | None = None
) -> Answers:
    """Why a configuration's answers aren't there."""
    return Answers(
        configuration=configuration,
        status="unavailable",
        reason=reason,
        placement=placement,
        agreement=None,
    )


def partings(texts: Sequence[Same | Parting]) -> Partings:
    """What texts come to.

    verdict: "same" where all texts are; "near-ties" where texts part at near-ties alone; else
    "differs".
    """
    parted = [text for text in texts if isinstance(text, Parting)]
    near = sum(text.near_tie for text in parted)
    return Partings(
        texts_parted=len(parted),
        near_ties=near,
        first_parting=min((text.parts_at for text in parted), default=None),
        verdict="differs" if near < len(parted) else "near-ties" if parted else "same",
    )
