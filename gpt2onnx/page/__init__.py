"""The page of a run: plain data in, one self-contained HTML file out, without scripts.

Knows HTML; knows no model. The standard library alone.
"""

from gpt2onnx.page.render import render
from gpt2onnx.page.run import Node, Option, Run, Step

__all__ = ["Node", "Option", "Run", "Step", "render"]
