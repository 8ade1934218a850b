"""Where a text stops beside transformers' StopStringCriteria."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from gpt2onnx.runtime.text.stop_strings import TextStream
from tests.runtime.text.test_stop_strings import byte_tokenizer


@settings(deadline=None, max_examples=50)
@given(st.data())
def test_stops_where_transformers_does(data: st.DataObject) -> None:
    """At the same token, of ASCII: transformers reads a byte of a longer character as U+FFFD."""
    import torch
    from transformers import PreTrainedTokenizerFast, StopStringCriteria

    ids = data.draw(st.lists(st.sampled_from([*b"<|ab ", 256, 257]), min_size=1, max_size=8))
    text = byte_tokenizer().decode(ids, skip_special_tokens=False)
    part = st.tuples(st.integers(0, len(text) - 1), st.integers(1, 20))
    stops = [text[a : a + n] for a, n in data.draw(st.lists(part, min_size=1, max_size=2))]
    theirs = StopStringCriteria(PreTrainedTokenizerFast(tokenizer_object=byte_tokenizer()), stops)
    stream = TextStream(byte_tokenizer(), stops)
    for n, id_ in enumerate(ids):
        stream.push(id_)
        assert stream.stopped == bool(theirs(torch.tensor([ids[: n + 1]]), None)[0])
        if stream.stopped:
            break
