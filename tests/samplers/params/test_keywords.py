"""What an editor completes is what a call takes."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import get_type_hints

from gpt2onnx.samplers.params import keywords, table
from gpt2onnx.samplers.params.keywords import GenerationKeywords
from gpt2onnx.samplers.params.table import PARAMETERS, ParameterTable

SCRIPT = Path(__file__).parents[3] / "scripts" / "keywords.py"


def test_the_module_is_up_to_date() -> None:
    written = runpy.run_path(str(SCRIPT))["module"]()
    assert Path(keywords.__file__).read_text(encoding="utf-8") == written


def test_each_field_is_a_keyword_of_its_type_in_its_order() -> None:
    fields = get_type_hints(ParameterTable, vars(table))
    found = get_type_hints(GenerationKeywords, vars(keywords))
    assert list(found) == list(PARAMETERS)
    assert found == {name: fields[name] | None for name in PARAMETERS}
    assert GenerationKeywords.__required_keys__ == frozenset()
