"""Small benchmarks of one question each: `python -m benchmarks.micro.NAME --help`.

samplers      a penalty, a warper, a chain, beside transformers' own
beams         what beam search adds to a step
speculation   a draft model, a lookup, lookahead decoding beside plain decoding
prefixes      requests whose prompts begin alike, with a prefix cache and without
sampling      what choosing tokens costs beside the model's run
exports       what each precision takes to make and to open
start         from a process' start to its first token, and its memory

All measure by `driver`: contenders in turns, medians, agreement beside each time, JSON at the end.
"""
