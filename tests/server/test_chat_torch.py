"""Chat templates beside transformers' own."""

from __future__ import annotations

from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerFast

from gpt2onnx import Model
from gpt2onnx.errors import RequestError
from gpt2onnx.server.chat_template import find_template

# ChatML with a refusal, a loop control, and special tokens.
CHATML = """\
{{ bos_token }}{% for message in messages %}
    {% if message.role == 'nobody' %}{{ raise_exception('nobody may not speak') }}{% endif %}
    {% if not loop.first and message.content == '' %}{% continue %}{% endif %}
{{ '<|im_start|>' + message.role + '\n' + message.content | trim + '<|im_end|>' + '\n' }}
{% endfor %}
{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}
{{ {'a': [1, 'é']} | tojson }}"""


def test_a_template_gives_transformers_text(model: Model, tmp_path: Path) -> None:
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(model.folder.tokenizer), bos_token="<|endoftext|>"
    )
    tokenizer.chat_template = CHATML
    tokenizer.save_pretrained(tmp_path)
    messages = [
        {"role": "system", "content": " x "},
        {"role": "user", "content": ""},
        {"role": "user", "content": "y"},
    ]
    template = find_template(tmp_path)
    assert template
    for prompt in (True, False):
        expected = tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=prompt
        )
        assert template.render(messages, prompt) == expected
    with pytest.raises(RequestError, match="nobody may not speak"):
        template.render([{"role": "nobody", "content": ""}], True)
