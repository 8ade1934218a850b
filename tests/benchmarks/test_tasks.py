from __future__ import annotations

from benchmarks.tasks import Task, interleaved, tasks


def test_rounds_visit_everyone_in_turn_after_one_that_does_not_count() -> None:
    order = [f"{name}{number}" for number, name in interleaved("ABC", 2)]
    assert order == ["A0", "B0", "C0", "A1", "B1", "C1", "A2", "B2", "C2"]


def test_the_first_step_is_the_prompts_and_the_rest_gives_a_median() -> None:
    found = Task(1, 512, 4).read([0.3, 0.01, 0.9, 0.02])
    assert found == {"decode_512_ms": 20.0, "prompt_512_ms": 300.0}


def test_a_batch_counts_tokens_of_all_rows() -> None:
    assert Task(8, 32, 4).read([0.3, 0.01, 0.9, 0.02]) == {"batch_8_tokens_per_s": 400.0}


def test_prompts_are_the_same_each_time_and_rows_differ() -> None:
    task = Task(2, 32, 4)
    first, second = task.prompts(1000)
    assert task.prompts(1000) == [first, second]
    assert first != second
    assert len(first) == 32
    assert max(first + second) < 1000


def test_what_does_not_fit_into_the_positions_is_not_measured() -> None:
    assert {task.context for task in tasks(1024, quick=False)} == {32, 512, 900}
    assert {task.rows for task in tasks(1024, quick=False)} == {1, 8, 32}
    assert {task.context for task in tasks(1024, quick=True)} == {32, 512}
    assert {task.context for task in tasks(256, quick=False)} == {32}
