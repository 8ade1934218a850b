"""Which nodes of a graph a provider took, and whether that is enough.

Knows an open session's record of its nodes; opens nothing.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from gpt2onnx.errors import Advised, ProviderError
from gpt2onnx.runtime.ort.provider import CPU, Provider

# Parts of operators' names, in which a transformer's time goes.
WORK = ("MatMul", "Gemm", "Attention")


def assignment(raw: Any, provider: Provider) -> str:
    """How many nodes the provider took, in words; raises ProviderError if the work stayed behind.

    `session.disable_cpu_ep_fallback` would refuse good models too: ONNX Runtime itself leaves nodes
    that compute shapes to the CPU. So the nodes are counted after opening, and a matrix product or
    an attention on the CPU is refused.
    """
    if provider.runs_all:
        return ""
    short = provider.short
    if provider.name not in raw.get_providers():
        raise ProviderError(
            f"{short} can't run here: ONNX Runtime left it out, and logged why", name=short
        )
    nodes = Counter(
        (part.ep_name == provider.name, node.op_type)
        for part in raw.get_provider_graph_assignment_info()
        for node in part.get_nodes()
    )
    taken = sum(count for (mine, _), count in nodes.items() if mine)
    left = {op: count for (mine, op), count in sorted(nodes.items()) if not mine}
    if not taken:
        raise ProviderError(
            f"{short} takes none of the {nodes.total()} nodes of this model", name=short
        )
    if work := [op for op in left if any(part in op for part in WORK)]:
        raise ProviderError(
            f"{short} can't run this model: it leaves {', '.join(work)} to the CPU; use one of "
            f"{provider.wants}, or ",
            Advised("provider", CPU.short),
            name=short,
        )
    rest = ", ".join(f"{count} {op}" for op, count in left.items())
    return f": {taken} of {nodes.total()} nodes" + (f", on the CPU {rest}" if rest else "")
