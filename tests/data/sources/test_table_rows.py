import csv
import io
import json
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from dpl.data.sources.table_rows import read_rows
from dpl.utils.errors import DplError


def plain(path: Path) -> list[tuple[str, ...]]:
    return [(row.path, row.label, *([] if row.split is None else [row.split])) for row in read_rows(path)]


EXPECTED = [("a.png", "cat"), ("b c.png", "small, grey dog")]


@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"], ids=["no mark", "mark"])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"], ids=["lf", "crlf", "cr"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_marks_line_ends_and_delimiters(tmp_path, bom, newline, delimiter):
    quoted = f'"small{","} grey dog"'
    lines = ["Image" + delimiter + "n" + delimiter + "LABEL ", f"a.png{delimiter}1{delimiter}cat", ""]
    lines.append(f'"b c.png"{delimiter}2{delimiter}{quoted}')
    path = tmp_path / "t.csv"
    path.write_bytes(bom + newline.join(lines).encode())
    assert plain(path) == EXPECTED


def test_a_tsv_has_tabs_whatever_else_is_in_it(tmp_path):
    (tmp_path / "t.tsv").write_text("path\tlabel\na,b;c.png\tcat, dog\n")
    assert plain(tmp_path / "t.tsv") == [("a,b;c.png", "cat, dog")]


def test_rows_are_told_by_the_line_that_they_begin_in(tmp_path):
    (tmp_path / "t.csv").write_text('\npath,label,split\n\n"two\nlines.png",cat,train\nb.png,dog,test\n')
    assert [row.place for row in read_rows(tmp_path / "t.csv")] == ["line 4", "line 6"]


@pytest.mark.parametrize("ending", ["json", "jsonl", "ndjson"])
@pytest.mark.parametrize("whole", [True, False])
def test_json_as_a_list_or_one_object_a_line(tmp_path, ending, whole):
    rows = [{"label": "cat", "file": "a.png", "x": {}}, {"file": "ü.png", "label": 3}, {"file": "c.png", "label": 4.0}]
    path = tmp_path / f"t.{ending}"
    text = json.dumps(rows, indent=1) if whole else "\r\n".join(map(json.dumps, rows)) + "\r\n"
    path.write_text(text, encoding="utf-8-sig")
    assert plain(path) == [("a.png", "cat"), ("ü.png", "3"), ("c.png", "4")]
    assert read_rows(path)[1].place == ("row 2" if whole else "line 2")


@pytest.mark.parametrize(
    "labels",
    [["cat", "dog"], [1, 2], [1.0, 2.0], pa.array(["cat", "dog"]).dictionary_encode(), pa.array(["a", "b"], pa.large_string())],
)
def test_parquet(tmp_path, labels):
    parquet.write_table(pa.table({"n": [1, 2], "path": ["a.png", "b.png"], "label": labels, "split": ["train", "test"]}),
                        tmp_path / "t.parquet")  # fmt: skip
    texts = [str(int(label)) if isinstance(label, float) else str(label) for label in labels]
    assert plain(tmp_path / "t.parquet") == [("a.png", texts[0], "train"), ("b.png", texts[1], "test")]


@pytest.mark.parametrize(
    ("columns", "wording"),
    [
        ({"path": ["a"], "label": [None]}, "row 1: the label is empty"),
        ({"path": ["a", "b"], "label": [1.0, float("nan")]}, "row 2: the label is empty"),
        ({"path": [None], "label": ["a"]}, "row 1: the path is empty"),
        ({"path": ["a"], "label": [["a"]]}, "row 1: the label is no text"),
        ({"path": ["a"], "label": [True]}, "row 1: the label is no text but True"),
        ({"path": ["a"]}, "no column for the label, but path"),
    ],
)
def test_cells_of_parquet_that_are_no_text(tmp_path, columns, wording):
    parquet.write_table(pa.table(columns), tmp_path / "t.parquet")
    with pytest.raises(DplError, match=wording):
        read_rows(tmp_path / "t.parquet")


def test_a_truncated_parquet_is_one_line(tmp_path):
    path = tmp_path / "t.parquet"
    parquet.write_table(pa.table({"path": ["a"] * 100, "label": list(map(str, range(100)))}), path)
    whole = path.read_bytes()
    for kept in (0, 1, 4, 50, len(whole) - 1):
        path.write_bytes(whole[:kept])
        with pytest.raises(DplError, match=r"t\.parquet: cannot be read as Parquet") as error:
            read_rows(path)
        assert "\n" not in str(error.value)


def test_without_pyarrow_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    (tmp_path / "t.parquet").touch()
    with pytest.raises(DplError, match=r"pyarrow; install it with: pip install 'differentiable-prompt-learning\[hub\]'"):
        read_rows(tmp_path / "t.parquet")


@pytest.mark.parametrize(
    ("name", "data", "wording"),
    [
        ("t.csv", b"", "is empty; a table needs"),
        ("t.csv", b"\n\n", "is empty; a table needs"),
        ("t.csv", b"a.png,cat\n", "no column for the path, but a.png, cat; a table needs"),
        ("t.csv", b"path,name\n", "no column for the label, but path, name"),
        ("t.csv", b"path,label,class\n", "2 columns for the label: label, class; keep one"),
        ("t.csv", b"path,Path,label\n", "2 columns for the path: path, Path"),
        ("t.csv", b'path,label\na.png,"cat\nb.png,dog\n', "line 2: .*quotation"),
        ("t.csv", b'path,label\na.png,"cat"s\n', "line 2: .*quotation"),
        ("t.csv", b"path,label\na.png,caf\xe9\n", "line 2: is not UTF-8; save it as UTF-8"),
        ("t.csv", "path,label\n".encode("utf-16"), "is UTF-16; save it as UTF-8"),
        ("t.csv", b"path,label\na,b,c\n", "has 3 cells, but the header 2; put a cell with a comma in"),
        ("t.json", b"", "is empty"),
        ("t.json", b"{}", "line 1: has no column for the path, but nothing"),
        ("t.json", b'{"train": [["a.png", 0, "cat"]]}', "line 1: has no column for the path, but train"),
        ("t.json", b'[{"path": "a"}', "is not JSON"),
        ("t.json", b"[1]", "row 1: is no object"),
        ("t.json", b'[{"path": "a", "label": "b", "label": "c"}]', "'label' is there twice"),
        ("t.json", b"[" * 100_000, "is not JSON"),
        ("t.json", b'[{"path": "a", "label": ' + b"9" * 5000 + b"}]", "is not JSON"),
        ("t.jsonl", b'{"path": "a", "label": "b"}\n{"path": "a"\n', "line 2: is not JSON"),
        ("t.jsonl", b'{"path": "a", "label": "b"}\n{"path": "a"}\n', "line 2: has no column for the label"),
        ("t.jsonl", b'{"path": "a", "label": NaN}\n', "line 1: the label is empty"),
        ("t.jsonl", b'{"path": "a", "label": "b", "split": null}\n', "line 1: the split is empty"),
        ("t.jsonl", b'"path"\n', "line 1: is no object"),
    ],
)
def test_what_is_no_table_is_one_line(tmp_path, name, data, wording):
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(DplError, match=wording) as error:
        read_rows(path)
    assert str(error.value).startswith(str(path)) and "\n" not in str(error.value) and len(str(error.value)) < 500


texts = st.text(st.characters(codec="utf-8", exclude_characters="\0\r\n"), min_size=1, max_size=9).filter(
    lambda text: text.strip()
)


@given(
    st.lists(st.tuples(texts, texts.filter(lambda text: text.strip().casefold() not in ("nan", "<na>"))), min_size=1),
    st.sampled_from([",", ";", "\t"]),
    st.sampled_from(["\n", "\r\n"]),
)
def test_what_pythons_writer_has_written_is_read(tmp_path_factory, rows, delimiter, newline):
    rows = [(path.lstrip(), label) for path, label in rows]
    path = tmp_path_factory.getbasetemp() / "written.csv"
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, delimiter=delimiter, lineterminator=newline, quoting=csv.QUOTE_ALL)
    writer.writerows([("path", "label"), *rows])
    path.write_bytes(buffer.getvalue().encode())
    assert plain(path) == [(name, label.strip()) for name, label in rows]
