from __future__ import annotations

import numpy as np
import pytest

from gpt2onnx.errors import ParameterError
from gpt2onnx.flags import flag, shown


@pytest.mark.parametrize("value", [True, np.True_])
def test_true(value: object) -> None:
    assert flag("force", value) is True


@pytest.mark.parametrize("value", [False, np.False_])
def test_false(value: object) -> None:
    assert flag("force", value) is False


@pytest.mark.parametrize("value", ["no", "", 0, 1, None, 1.0, [], np.array(True), np.int64(1)])
def test_what_merely_counts_as_one(value: object) -> None:
    with pytest.raises(ParameterError, match=r"force=.*: expected True or False"):
        flag("force", value)


def test_what_is_shown_is_short() -> None:
    assert len(shown("x" * 10_000)) <= 200
    assert shown(10**5000) == "a int of thousands of digits"
