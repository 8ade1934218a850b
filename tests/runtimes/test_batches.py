"""Prompts of unequal length in one batch, padded on either side: each row's text is its own.

onnxruntime-genai pads by itself, and what is padded for it on the left it reads as tokens.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import gpt2onnx
from tests.runtimes.environments import node_modules, python_of, said

pytestmark = pytest.mark.slow
PROMPTS = ["Once upon a time", "def", "class Stack:\n    def push(self, item):"]
TOKENS = 12
Exported = Callable[..., Path]

# Reads a batch as it is padded, then writes: each row's next position is how many it has read.
LOOP = """
import json, sys
import numpy as np

folder, runtime = sys.argv[1:3]
ids, mask = (np.array(each) for each in json.loads(sys.argv[3]))
rows = len(ids)

def present(name):
    return name.replace("past_key_values", "present")

def no_past(shapes):
    caches = {name: shape for name, shape in shapes.items() if len(shape) == 4}
    return {n: np.zeros((rows, s[1], 0, s[3]), np.float32) for n, s in caches.items()}

if runtime == "optimum":
    import torch
    from optimum.onnxruntime import ORTModelForCausalLM

    model, past = ORTModelForCausalLM.from_pretrained(folder), None

    def forward(past, **given):
        given = {name: torch.tensor(value) for name, value in given.items()}
        output = model(**given, past_key_values=past, use_cache=True)
        return output.logits.numpy(), output.past_key_values
elif runtime == "openvino":
    import openvino

    exact = {"INFERENCE_PRECISION_HINT": "f32"}
    model = openvino.compile_model(f"{folder}/model.onnx", "CPU", exact)
    shapes = {value.any_name: value.partial_shape for value in model.inputs}
    past = no_past({n: [d.is_static and d.get_length() for d in s] for n, s in shapes.items()})

    def forward(past, **given):
        found = model({**given, **past})
        return found["logits"], {name: found[present(name)] for name in past}
else:
    import onnxruntime

    cpu = ["CPUExecutionProvider"]
    session = onnxruntime.InferenceSession(f"{folder}/model.onnx", providers=cpu)
    names = [value.name for value in session.get_outputs()]
    past = no_past({value.name: value.shape for value in session.get_inputs()})

    def forward(past, **given):
        found = dict(zip(names, session.run(names, {**given, **past})))
        return found["logits"], {name: found[present(name)] for name in past}

# Of padding the position is of no matter; behind it they go on from what the mask lets through.
positions = np.maximum(mask.cumsum(-1) - 1, 0)
last = mask.shape[1] - 1 - mask[:, ::-1].argmax(-1)
written = []
for _ in range(int(sys.argv[4])):
    logits, past = forward(past, input_ids=ids, attention_mask=mask, position_ids=positions)
    ids = logits[np.arange(rows), last].argmax(-1)[:, None]
    written.append(ids[:, 0].tolist())
    positions, last = mask.sum(-1, keepdims=True), np.zeros(rows, int)
    mask = np.concatenate([mask, np.ones((rows, 1), int)], 1)
print(json.dumps(np.transpose(written).tolist()))
"""

JS_LOOP = """
import { env, AutoModelForCausalLM, DynamicCache, Tensor } from "@huggingface/transformers";
env.allowRemoteModels = false;
env.localModelPath = "models/";
const model = await AutoModelForCausalLM.from_pretrained("m", { dtype: DTYPE });
const tensor = (rows) =>
  new Tensor("int64", BigInt64Array.from(rows.flat(), BigInt), [rows.length, rows[0].length]);
let [ids, mask] = GIVEN;
let last = mask.map((row) => row.lastIndexOf(1));
let past = null;
const written = ids.map(() => []);
for (let at = 0; at < TOKENS; at++) {
  const read = { input_ids: tensor(ids), attention_mask: tensor(mask), past_key_values: past };
  const outputs = await model(read);
  const present = Object.entries(outputs).filter(([name]) => name.startsWith("present"));
  past = new DynamicCache(Object.fromEntries(
    present.map(([name, each]) => [name.replace("present", "past_key_values"), each]),
  ));
  const [, length, vocab] = outputs.logits.dims;
  ids = last.map((place, row) => {
    const start = (row * length + place) * vocab;
    const logits = outputs.logits.data.slice(start, start + vocab);
    return [logits.indexOf(Math.max(...logits))];
  });
  ids.forEach(([id], row) => written[row].push(id));
  last = last.map(() => 0);
  mask = mask.map((row) => [...row, 1]);
}
console.log(JSON.stringify(written));
"""

GENERATE = """
import { env, AutoTokenizer, AutoModelForCausalLM } from "@huggingface/transformers";
env.allowRemoteModels = false;
env.localModelPath = "models/";
const tokenizer = await AutoTokenizer.from_pretrained("m");
const model = await AutoModelForCausalLM.from_pretrained("m", { dtype: DTYPE });
const inputs = tokenizer(GIVEN, { padding: true });
const made = await model.generate({
  ...inputs, max_new_tokens: TOKENS, min_new_tokens: TOKENS, do_sample: false,
});
console.log(JSON.stringify(made.tolist().map((row) => row.slice(-TOKENS).map(Number))));
"""

GENAI = """
import json, sys
import numpy as np
import onnxruntime_genai as genai

model = genai.Model(sys.argv[1])
given = json.loads(sys.argv[2])
tokenizer = genai.Tokenizer(model)
texts = isinstance(given[0], str)
ids = tokenizer.encode_batch(given).as_numpy() if texts else np.array(given, np.int32)
params = genai.GeneratorParams(model)
length = ids.shape[1] + int(sys.argv[3])
params.set_search_options(max_length=length, do_sample=False, batch_size=len(ids))
generator = genai.Generator(model, params)
generator.append_tokens(ids)
while not generator.is_done():
    generator.generate_next_token()
rows = [generator.get_sequence(row)[ids.shape[1] :].tolist() for row in range(len(ids))]
print(json.dumps(rows))
"""


def texts(folder: Path, prompts: list[str] | list[list[int]]) -> list[list[int]]:
    """What gpt2onnx writes behind each prompt alone."""
    model = gpt2onnx.load(folder, startup_cache=False)
    options = {"max_new_tokens": TOKENS, "min_new_tokens": TOKENS}
    return [list(model.generate(prompt, **options).token_ids) for prompt in prompts]


def padded(folder: Path, side: str) -> tuple[list[list[int]], list[list[int]]]:
    """The prompts' ids and mask, [rows, longest] each; padding is a token that means something."""
    tokenizer = gpt2onnx.load(folder, startup_cache=False).tokenizer
    rows = [encoding.ids for encoding in map(tokenizer.encode, PROMPTS)]
    longest = max(map(len, rows))

    def fill(row: list[int], filler: int) -> list[int]:
        filling = [filler] * (longest - len(row))
        return filling + row if side == "left" else row + filling

    return [fill(row, 7) for row in rows], [fill([1] * len(row), 0) for row in rows]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize(
    ("runtime", "target", "graph", "precision"),
    [
        ("onnxruntime", "onnxruntime", "masked", "fp32"),
        ("onnxruntime", "onnxruntime", "masked", "int8"),
        ("onnxruntime", "onnxruntime", "portable", "fp32"),
        ("oldest", "onnxruntime", "portable", "fp32"),
        ("optimum", "optimum", "portable", "fp32"),
        ("optimum", "optimum", "masked", "fp32"),
        ("openvino", "openvino", "portable", "fp32"),
    ],
)
def test_rows_are_what_they_are_alone(
    runtime: str, target: str, graph: str, precision: str, side: str, exported: Exported
) -> None:
    folder = exported(target, graph, precision)
    if runtime == "optimum":
        pytest.importorskip("optimum.onnxruntime")
    python = python_of(runtime) if runtime in ("oldest", "openvino") else Path(sys.executable)
    given = json.dumps(padded(folder, side))
    found = said(python, "-c", LOOP, folder, runtime, given, str(TOKENS), cwd=folder)
    assert json.loads(found.splitlines()[-1]) == texts(folder, PROMPTS)


def in_node(code: str, folder: Path, place: Path, given: object, dtype: str) -> list[list[int]]:
    """What a program prints of a model folder; it knows what it is given by name."""
    (place / "node_modules").symlink_to(node_modules())
    shutil.copytree(folder, place / "models" / "m")
    names = {"GIVEN": given, "TOKENS": TOKENS, "DTYPE": dtype}
    constants = "".join(f"const {name} = {json.dumps(value)};\n" for name, value in names.items())
    (place / "run.mjs").write_text(constants + code)
    found: list[list[int]] = json.loads(said("node", "run.mjs", cwd=place))
    return found


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize(
    ("graph", "precision", "dtype"),
    [("masked", "fp32", "fp32"), ("masked", "int8", "q8"), ("portable", "fp32", "fp32")],
)
def test_transformers_js_reads_them(
    graph: str, precision: str, dtype: str, side: str, exported: Exported, tmp_path: Path
) -> None:
    folder = exported("transformers.js", graph, precision)
    found = in_node(JS_LOOP, folder, tmp_path, padded(folder, side), dtype)
    assert found == texts(folder, PROMPTS)


def test_transformers_js_pads_and_generates(exported: Exported, tmp_path: Path) -> None:
    """On the left, as the folder says."""
    folder = exported("transformers.js", "masked", "fp32")
    assert in_node(GENERATE, folder, tmp_path, PROMPTS, "fp32") == texts(folder, PROMPTS)


@pytest.mark.parametrize("graph", ["masked", "portable"])
def test_genai_pads_on_the_right(graph: str, exported: Exported) -> None:
    folder = exported("genai", graph, "fp32")
    run = (python_of("genai"), "-c", GENAI, folder)
    found = said(*run, json.dumps(PROMPTS), str(TOKENS), cwd=folder)
    assert json.loads(found) == texts(folder, PROMPTS)


def test_genai_reads_what_is_padded_on_the_left(exported: Exported) -> None:
    """Whatever the token: its mask lets all of them through."""
    folder = exported("genai", "masked", "fp32")
    pad = json.loads((folder / "genai_config.json").read_text())["model"]["pad_token_id"]
    ids, mask = padded(folder, "left")
    rows = [
        [token if there else pad for token, there in zip(*row, strict=True)]
        for row in zip(ids, mask, strict=True)
    ]
    found = said(python_of("genai"), "-c", GENAI, folder, json.dumps(rows), str(TOKENS), cwd=folder)
    assert json.loads(found) == texts(folder, rows)
    assert json.loads(found) != texts(folder, PROMPTS)
