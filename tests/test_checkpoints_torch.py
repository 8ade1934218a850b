"""The checkpoints of the tests are those that PyTorch draws from the same seed."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.checkpoints import random_weights
from tests.torch_checkpoints import random_model


@pytest.mark.parametrize("given", [{}, {"n_embd": 20, "n_inner": 33}, {"vocab_size": 301}])
def test_weights_are_pytorchs(given: dict[str, int]) -> None:
    generator = torch.Generator().manual_seed(7)
    weights = random_weights(7, **given)
    for name, parameter in random_model(7, **given).named_parameters():
        drawn = torch.empty_like(parameter)
        drawn.normal_(float(".ln_" in name and name.endswith(".weight")), 0.3, generator=generator)
        np.testing.assert_allclose(weights[name], drawn.detach().numpy(), atol=5e-7)
        np.testing.assert_array_equal(weights[name], parameter.detach().numpy())
