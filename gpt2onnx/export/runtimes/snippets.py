"""Code that runs a model folder in each runtime, for its README.md.

DTYPE stands for transformers.js' word for the precision. Python runs inside the folder, JavaScript
beside `models/gpt2`. Tests run all of it.
"""

from __future__ import annotations

from typing import NamedTuple


class Snippet(NamedTuple):
    """Code, its language, and what is to be said before it."""

    before: str
    language: str
    code: str


ONNXRUNTIME = """\
import gpt2onnx

model = gpt2onnx.load(".")
print(model.generate("Once upon a time", max_new_tokens=20).text)
"""

OPTIMUM = """\
from optimum.onnxruntime import ORTModelForCausalLM
from transformers import AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained(".")
model = ORTModelForCausalLM.from_pretrained(".")
prompt = tokenizer("Once upon a time", return_tensors="pt")
ids = model.generate(**prompt, max_new_tokens=20, do_sample=False)
print(tokenizer.decode(ids[0, prompt["input_ids"].shape[1] :]))
"""

GENAI = """\
import onnxruntime_genai as genai

model = genai.Model(".")
tokenizer = genai.Tokenizer(model)
prompt = tokenizer.encode("Once upon a time")
params = genai.GeneratorParams(model)
params.set_search_options(max_length=len(prompt) + 20, do_sample=False)
generator = genai.Generator(model, params)
generator.append_tokens(prompt)
while not generator.is_done():
    generator.generate_next_token()
print(tokenizer.decode(generator.get_sequence(0)[len(prompt) :]))
"""

OPENVINO = """\
import numpy as np
import openvino
from tokenizers import Tokenizer

tokenizer = Tokenizer.from_file("tokenizer.json")
model = openvino.compile_model("model.onnx", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
shapes = {value.any_name: value.partial_shape for value in model.inputs}
past = {
    name: np.zeros((1, shape[1].get_length(), 0, shape[3].get_length()), np.float32)
    for name, shape in shapes.items()
    if name.startswith("past_key_values")
}
ids = tokenizer.encode("Once upon a time").ids
known = 0
prompt = len(ids)
while len(ids) < prompt + 20:
    feeds = {
        "input_ids": np.array([ids[known:]]),
        "attention_mask": np.ones((1, len(ids)), np.int64),
        "position_ids": np.arange(known, len(ids))[None],
    }
    outputs = model({**feeds, **past})
    past = {name: outputs[name.replace("past_key_values", "present")] for name in past}
    known = len(ids)
    ids.append(int(outputs["logits"][0, -1].argmax()))
print(tokenizer.decode(ids[prompt:]))
"""

TRANSFORMERS_JS = """\
import { env, pipeline } from "@huggingface/transformers";

env.allowRemoteModels = false;
env.localModelPath = "models/";
const generate = await pipeline("text-generation", "gpt2", { dtype: "DTYPE" });
const options = { max_new_tokens: 20, do_sample: false, return_full_text: false };
const [output] = await generate("Once upon a time", options);
console.log(output.generated_text);
"""

SNIPPETS = {
    "onnxruntime": Snippet(
        "`pip install 'gpt2onnx[cpu]'`, then in this folder:", "python", ONNXRUNTIME
    ),
    "optimum": Snippet(
        "`pip install 'optimum-onnx[onnxruntime]'`, then in this folder:", "python", OPTIMUM
    ),
    "genai": Snippet("`pip install onnxruntime-genai`, then in this folder:", "python", GENAI),
    "openvino": Snippet(
        "`pip install openvino tokenizers`, then in this folder. On processors that have bf16\n"
        "OpenVINO computes in it unless the hint says otherwise, and greedy texts drift:",
        "python",
        OPENVINO,
    ),
    "transformers.js": Snippet(
        "`npm install @huggingface/transformers`, then beside this folder as `models/gpt2`:",
        "js",
        TRANSFORMERS_JS,
    ),
}
