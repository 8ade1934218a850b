"""The graph that a model folder is opened in: in ONNX Runtime's operators, or in the kernels'.

Knows which graphs a folder has and how a session is opened; knows no decoder.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import NamedTuple

from gpt2onnx.runtime.folder.model_folder import DRAFT_GRAPH, KERNELS_GRAPH, ModelFolder
from gpt2onnx.runtime.ort.kernels import Kernels, chosen_kernels
from gpt2onnx.runtime.ort.provider import AUTO, CPU
from gpt2onnx.runtime.ort.session import How, Model, Session, create, open_session
from gpt2onnx.runtime.ort.session_options import Profiler


class ChosenGraph(NamedTuple):
    """A folder whose `graph` is the chosen one, and the kernels where that is theirs.

    `passed_over` is why it isn't, where the folder has one and "auto" left it.
    """

    folder: ModelFolder
    kernels: Kernels | None
    passed_over: str = ""

    def open(
        self,
        provider: str = AUTO,
        provider_options: Mapping[str, object] | None = None,
        threads: int | None = None,
        meanwhile: Callable[[], object] | None = None,
        profiler: Profiler | None = None,
        create: Callable[[Model, How], Session] = create,
    ) -> Session:
        """A session of it, whose `choice` names the kernels, or says why they were passed over.

        Parameters and errors as `open_session`'s.
        """
        session = open_session(
            self.folder.graph,
            *(provider, provider_options, threads, meanwhile, profiler),
            operators=self.kernels and self.kernels.library,
            create=create,
        )
        told = [f"{self.kernels.name} kernels"] if self.kernels else []
        told += [f"not {KERNELS_GRAPH}: {self.passed_over}"] if self.passed_over else []
        return replace(session, choice="; ".join([session.choice, *told]))

    def loop(
        self,
        provider_options: Mapping[str, object] | None = None,
        threads: int | None = None,
        create: Callable[[Model, How], Session] = create,
    ) -> Callable[[], Session] | None:
        """Opens the kernels' graph in a loop; None where the folder has none."""
        graph = self.folder.path / DRAFT_GRAPH
        if self.kernels is None or not graph.is_file():
            return None
        loop = self._replace(folder=replace(self.folder, graph=graph))
        return partial(loop.open, CPU.short, provider_options, threads, create=create)


def choose_graph(folder: ModelFolder, graph: str, provider: str) -> ChosenGraph:
    """What a folder is opened in; `graph` and errors as `chosen_kernels`'."""
    choice = chosen_kernels(folder, graph, provider)
    if choice.kernels:
        folder = replace(folder, graph=folder.path / KERNELS_GRAPH)
    return ChosenGraph(folder, *choice)
