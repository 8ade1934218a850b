"""KL and top-1 beside PyTorch in double precision."""

from __future__ import annotations

import numpy as np
import pytest

from tests.test_agreement import agreement, drawn


@pytest.mark.parametrize("distance", [1e-4, 0.1, 3])
def test_kl_is_torchs(distance: float) -> None:
    import torch

    reference, candidate = drawn(0, 50, 300, distance)
    log_p, log_q = (torch.tensor(x).double().log_softmax(-1) for x in (reference, candidate))
    expected = torch.nn.functional.kl_div(log_q, log_p, log_target=True, reduction="none").sum(-1)
    result = agreement(reference, candidate)
    np.testing.assert_allclose(result.kl_by_position, expected, rtol=1e-6, atol=1e-14)
    assert result.kl_mean == pytest.approx(float(expected.mean()), rel=1e-6)
    assert result.kl_p99 == pytest.approx(float(expected.quantile(0.99)), rel=1e-6)
    top = torch.tensor(reference).argmax(-1) == torch.tensor(candidate).argmax(-1)
    np.testing.assert_array_equal(result.top1_by_position, top)
