from __future__ import annotations

import xml.etree.ElementTree as ET

from gpt2onnx.page import Node
from gpt2onnx.page.tree import DROP, tree

LEVELS = [
    [Node("a", 0.75, -0.25, 0, "kept", best=True), Node("<&>", 0.25, -1.5, 0, "pruned")],
    [
        Node("b", 0.5, -1.0, 0, "finished", best=True),
        Node("c", 0.25, -1.5, 0, "kept"),
        Node('"', 0.2, -2.0, 0, "pruned"),
        Node("d", 0.05, -3.25, 0, "pruned"),
    ],
]


def parsed() -> ET.Element:
    return ET.fromstring(tree(LEVELS))


def test_a_node_for_each_branch_with_its_figures() -> None:
    nodes = [list(row) for row in parsed().iter("ul")]
    assert [len(row) for row in nodes] == [2, 4]
    assert "".join(nodes[0][1].itertext()) == "<&>25.00\N{NO-BREAK SPACE}%\N{MINUS SIGN}1.50"
    assert "".join(nodes[1][0].itertext()) == "b end50.00\N{NO-BREAK SPACE}%\N{MINUS SIGN}1.00"
    assert nodes[1][0].get("title").endswith("of the whole hypothesis: -1.000")


def test_only_the_pruned_are_without_colour() -> None:
    classes = [node.get("class").split() for node in parsed().iter("li")]
    assert classes[0] == ["kept", "best", "p3"]
    assert classes[2] == ["finished", "best", "p3"]
    assert [each for each in classes if "pruned" in each] == [["pruned"]] * 3


def test_a_line_leads_from_the_parent_and_the_best_lies_on_top() -> None:
    first, second = parsed().iter("svg")
    assert [path.get("class") for path in first] == ["pruned", "kept best"]
    last = second[-1]
    assert last.get("class") == "finished best"
    assert last.get("d") == f"M250.0,0 C250.0,{DROP / 2} 125.0,{DROP / 2} 125.0,{DROP}"


def test_no_tree_without_beams() -> None:
    assert tree([]) == ""
