"""The default prompts of a comparison: prose, dialogue, a list, figures and code."""

from __future__ import annotations

PROMPTS = (
    "The lighthouse had been dark for eleven years when the letter came, and nobody in the village "
    "could say who had paid the postage.",
    '"You said it would hold," she whispered. "I said it would hold until the rain," he answered, '
    "and looked at",
    "To make bread you need four things: flour, water, salt and",
    "Rivers carry more than water. Over thousands of years a slow river moves",
    "The meeting was called for nine. By ten past, three of the seven chairs were still empty, so",
    "In 2019 the station counted 4,812 birds; in 2020, 5,107; in 2021,",
    "import json\n\n\ndef read_settings(path):\n    ",
    "class Queue:\n    def __init__(self, size):\n        self.size = size\n        ",
)
