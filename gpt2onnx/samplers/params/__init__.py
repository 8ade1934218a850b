"""The parameters of a generation: their table, their checks, and the rules between them.

A new sampler is its function, and its field in `table`. Knows nothing of models.
"""

from gpt2onnx.samplers.params.generation_config import defaults_from_generation_config
from gpt2onnx.samplers.params.generation_params import GenerationParams
from gpt2onnx.samplers.params.rules import DRAFTS, LOOKAHEAD
from gpt2onnx.samplers.params.table import PARAMETERS, WARPERS

__all__ = [
    "DRAFTS",
    "LOOKAHEAD",
    "PARAMETERS",
    "WARPERS",
    "GenerationParams",
    "defaults_from_generation_config",
]
