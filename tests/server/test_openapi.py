"""The description at /openapi.json is true: schemathesis makes bodies of it, and looks at answers.

Bodies that it allows, and bodies that it doesn't.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import hypothesis
import jsonschema
import pytest
import requests
import schemathesis
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi import checks

import gpt2onnx
from gpt2onnx.server.app import ENDPOINTS, LOOKUPS, Rules, make_app
from gpt2onnx.server.keys import Keys
from gpt2onnx.server.served import ServedModels
from tests.checkpoints import make_checkpoint
from tests.server.conftest import Running, serving

CHECKS = [
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
    checks.negative_data_rejection,
]
MOST_ERROR_BYTES = 2000


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A small model that chats and has hidden states: every endpoint has something to answer."""
    folder = tmp_path_factory.mktemp("tiny")
    source = make_checkpoint(folder / "checkpoint")
    template = "{% for m in messages %}{{ m.content }}{% endfor %}"
    (source / "chat_template.jinja").write_text(template)
    gpt2onnx.export(source, folder / "model", with_hidden_states=True, verify=False)
    model = gpt2onnx.load(folder / "model", threads=1)
    with serving({"tiny": model}, max_rows=8) as running:
        yield running


def test_it_is_well_formed(tiny: Running) -> None:
    _, document, _ = tiny.ask("/openapi.json")
    assert set(document["paths"]) == {each.path for each in (*ENDPOINTS, *LOOKUPS)}
    for each in ENDPOINTS:
        for schema in (each.form.schema(), each.answer_schema):
            jsonschema.Draft202012Validator.check_schema(schema)
    properties = ENDPOINTS[0].form.schema()["properties"]
    assert {"prompt", "regex", "num_beams", "user", "n", "stop"} <= properties.keys()
    assert properties["suffix"]["type"] == "null"
    assert "stop_fn" not in properties
    assert document["security"] == []


def test_it_says_that_keys_are_needed() -> None:
    gate = make_app(ServedModels([]), Rules(Keys({})))
    document: Any = gate.app.state.document  # type: ignore[attr-defined]
    assert document["security"] == [{"key": []}]


@pytest.mark.parametrize(
    "count", [12, pytest.param(840, marks=pytest.mark.slow)], ids=["short", "long"]
)
@pytest.mark.parametrize("mode", list(schemathesis.GenerationMode), ids=lambda mode: mode.value)
def test_whatever_it_allows_and_whatever_not(tiny: Running, mode: Any, count: int) -> None:
    """8 endpoints, twice 840 bodies: 13,000."""
    schema = schemathesis.openapi.from_url(f"{tiny.url}/openapi.json")
    with requests.Session() as session:
        for found in schema.get_all_operations():
            operation = found.ok()
            if operation.method == "post" or mode is schemathesis.GenerationMode.POSITIVE:
                examine(operation, mode, count if operation.method == "post" else 3, session)
    stats = tiny.engine.stats()
    assert (stats.rows, stats.failed, stats.running, stats.waiting) == (0, 0, 0, 0)


def examine(operation: Any, mode: Any, count: int, session: requests.Session) -> None:
    """Ask an endpoint that often, and look at each answer."""

    @hypothesis.settings(
        max_examples=count,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(hypothesis.HealthCheck),
        phases=[hypothesis.Phase.generate],
    )
    @hypothesis.given(operation.as_strategy(generation_mode=mode))
    def asks(case: Any) -> None:
        response = case.call_and_validate(session=session, checks=CHECKS)
        if response.status_code != 200:
            assert len(response.content) < MOST_ERROR_BYTES

    asks()
