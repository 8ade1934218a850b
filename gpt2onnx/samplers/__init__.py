"""Logits of one sequence in, one token out. numpy alone.

`Sampler` is the whole chain; `penalties`, `warpers` and `draw` are the pieces that other strategies
stand on.
"""

from gpt2onnx.samplers.beam import BeamSearch, Branch
from gpt2onnx.samplers.candidates import Candidates
from gpt2onnx.samplers.chain import (
    compose_penalties,
    compose_warpers,
    penalty_steps,
    warper_steps,
)
from gpt2onnx.samplers.draw import categorical, generator, greedy
from gpt2onnx.samplers.hypotheses import Finished, Hypothesis
from gpt2onnx.samplers.largest import Largest
from gpt2onnx.samplers.logprobs import entropy, log_softmax, token_logprobs, top_logprobs
from gpt2onnx.samplers.params import GenerationParams, defaults_from_generation_config
from gpt2onnx.samplers.penalties import Penalty
from gpt2onnx.samplers.sampler import Choice, Sampler
from gpt2onnx.samplers.stopping import StopFn, is_stopped
from gpt2onnx.samplers.warpers import Warper

__all__ = [
    "BeamSearch",
    "Branch",
    "Candidates",
    "Choice",
    "Finished",
    "GenerationParams",
    "Hypothesis",
    "Largest",
    "Penalty",
    "Sampler",
    "StopFn",
    "Warper",
    "categorical",
    "compose_penalties",
    "compose_warpers",
    "defaults_from_generation_config",
    "entropy",
    "generator",
    "greedy",
    "is_stopped",
    "log_softmax",
    "penalty_steps",
    "token_logprobs",
    "top_logprobs",
    "warper_steps",
]
