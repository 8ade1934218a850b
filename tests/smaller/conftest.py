from __future__ import annotations

from pathlib import Path

import pytest

from tests.smaller.bpe_checkpoint import make_bpe_checkpoint


@pytest.fixture(scope="session")
def bpe_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random checkpoint of 702 tokens, the last two of them special, and 720 rows."""
    return make_bpe_checkpoint(tmp_path_factory.mktemp("bpe"))
