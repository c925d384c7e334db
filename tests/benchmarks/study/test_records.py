import json

from benchmarks.study.records import Cell, append, cell_of, missing, read_records


def record(task: str, seed: int, arm: str = "search", accuracy: float = 0.5) -> dict:
    return {"task": task, "shots": 16, "seed": seed, "arm": arm, "accuracy": accuracy}


def test_results_come_back_and_what_is_missing_is_known(tmp_path):
    for own in (record("fog", 1), record("digits", 2), record("fog", 2)):
        append(own, tmp_path)
    found = read_records(tmp_path)
    assert [cell_of(own) for own in found] == [Cell("digits", 16, 2, "search"), *(Cell("fog", 16, s, "search") for s in (1, 2))]
    cells = [Cell("fog", 16, seed, "search") for seed in (1, 2, 3)]
    assert missing(cells, found) == cells[2:]


def test_a_line_that_a_kill_has_cut_is_lost_alone(tmp_path):
    append(record("fog", 1), tmp_path)
    file = tmp_path / "fog.jsonl"
    file.write_text(file.read_text() + json.dumps(record("fog", 2))[:20])
    append(record("fog", 3), tmp_path)
    assert [cell_of(own).seed for own in read_records(tmp_path)] == [1, 3]


def test_a_result_measured_again_counts_once_and_the_last_time(tmp_path):
    append(record("fog", 1, accuracy=0.5), tmp_path)
    append(record("fog", 1, accuracy=0.7), tmp_path)
    assert [own["accuracy"] for own in read_records(tmp_path)] == [0.7]


def test_the_prompt_scale_of_earlier_records_is_read_under_its_former_name(tmp_path):
    append(record("fog", 1) | {"gate": 0.5, "ungated_accuracy": 0.4}, tmp_path)
    assert read_records(tmp_path) == [record("fog", 1) | {"prompt_scale": 0.5, "unscaled_accuracy": 0.4}]
