"""The one dialect of CSV files: what is read, what is an error of a line, what refuses the file."""

import numpy as np
import pytest

from agad_tf.csv_rows import CsvFile, numeric_rows, plain_cell
from agad_tf.data.sources.load import load_samples
from agad_tf.errors import InputError
from agad_tf.identity import Identity

WANTED = [[1.5, 20.0], [2.25, -3e-2]]


def write(tmp_path, content):
    path = tmp_path / "t.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def results(path, columns=None, features=2, label_column=None):
    rows = numeric_rows(path, features, Identity("table", columns), label_column)
    return [(line, value if isinstance(value, str) else value.tolist()) for line, value in rows]


@pytest.mark.parametrize(
    "text",
    [
        "1.5,20\n2.25,-3e-2\n",
        "a,b\n1.5,20\n2.25,-3e-2\n",
        "\ufeffa;b\n1.5;20\n2.25;-3e-2\n",
        "1,5;20\n2,25;-3e-2\n",
        "1,5;20,0\n2,25;-3,0E-2\n",
        "1,5\t20\n2,25\t-0,03\n",
        '"1,5","20"\n"2,25","-0,03"\n',
        "sep=;\r\na;b\r\n1,5;20\r\n2,25;-0,03\r\n",
        '"sep=,"\na,b\n1.5,20\n2.25,-0.03\n',
        "sep=\t\n1.5\t20\n2.25\t-0.03\n",
        "druck, bar;temp, C, innen;label\n1,5;20;0\n2,25;-0,03;1\n",
        '"a\n(bar)",b,label\n1.5,20,"good\nas new"\n2.25,-0.03,bad\n',
        '"a, b", c\n"1.5", 20\n2.25, -0.03\n',
        "a\rb\r1.5\r2.25\r".replace("a\rb", "a,b").replace("1.5", "1.5,20").replace("2.25", "2.25,-0.03"),
    ],
)
def test_dialects(tmp_path, text):
    received = results(write(tmp_path, text))
    np.testing.assert_array_equal([value for _, value in received], WANTED)


def test_training_reads_what_scoring_reads(tmp_path):
    text = "sep=;\ndruck, bar;flow;label\n1,5;2,0;0\n;;\n2,5;3,0;1\n"
    samples = load_samples(write(tmp_path, text))
    assert samples.feature_names == ("druck, bar", "flow")
    assert samples.x.tolist() == [[1.5, 2], [2.5, 3]]
    received = results(tmp_path / "t.csv", samples.feature_names)
    assert [line for line, _ in received] == [3, 4, 5]
    assert "line 4: expected numbers, received an empty row" in received[1][1]
    assert [received[0][1], received[2][1]] == samples.x.tolist()


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        ("1.234,5", "without thousands separators, received '1.234,5'"),
        ("1 234", "without thousands separators, received '1 234'"),
        ("1.234", "expected decimal commas as in the rest of the file, received '1.234'"),
        ("1_000", "expected numbers, received '1_000'"),
        ("eins", "expected numbers, received 'eins'"),
        ("", "received an empty cell or a missing value"),
        ("NaN", "received an empty cell or a missing value"),
        ("1e39", "finite numbers within float32"),
        ("1;2", "expected 2 cells as in the first row, received 3"),
        ('"1', "expected closed quotation marks"),
    ],
)
def test_a_broken_cell_is_an_error_of_its_line(tmp_path, cell, said):
    received = results(write(tmp_path, f"a;b\n0,5;1\n7;{cell}\n2;3\n"))
    assert [line for line, _ in received] == [2, 3, 4]
    assert [received[0][1], received[2][1]] == [[0.5, 1], [2, 3]]
    assert received[1][1].startswith(f"{tmp_path / 't.csv'}: line 3: ")
    assert said in received[1][1]
    assert "\n" not in received[1][1]


@pytest.mark.parametrize("cell", ['"1,234"', '"1,234,567"', '"1,234.5"'])
def test_commas_of_thousands_are_refused(tmp_path, cell):
    received = results(write(tmp_path, f"a,b\n1,2\n{cell},2\n"))
    assert received[0][1] == [1, 2]
    assert "thousands" in received[1][1] or "may be 1234 or 1.234" in received[1][1]
    with pytest.raises(InputError, match="in column 'a', line 3"):
        load_samples(write(tmp_path, f"a,b,label\n1,2,0\n{cell},2,1\n"))


def test_a_quotation_mark_that_stays_open_spoils_one_line(tmp_path):
    received = results(write(tmp_path, '1,2\n3,"4\n5,6\n7,8\n'))
    assert [isinstance(value, list) for _, value in received] == [True, False, True, True]
    received = results(write(tmp_path, '1,2\n3,"4\n5,6\n7,"8"\n'))
    assert [isinstance(value, list) for _, value in received] == [True, False, True, True]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("a,b\n1,2\n".encode("utf-16"), "UTF-16"),
        ("a,b\n1,2\n".encode("utf-16-le"), "UTF-16"),
        (b"temperatur \xb0C,b\n1,2\n", "UTF-8"),
        (b"sep=|\na|b\n1|2\n", "separated by commas, semicolons or tabs, received 'sep=|'"),
        (b"", "an empty file"),
        (b"\n \n", "an empty file"),
    ],
)
def test_files_that_are_refused(tmp_path, content, said):
    with pytest.raises(InputError) as error:
        CsvFile(write(tmp_path, content))
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_what_is_no_file_is_refused(tmp_path):
    import os

    os.mkfifo(tmp_path / "pipe.csv")
    for path in (tmp_path, tmp_path / "pipe.csv", tmp_path / "none.csv"):
        with pytest.raises(InputError, match="expected a CSV file"):
            CsvFile(path)


def test_columns_without_a_name_in_training(tmp_path, caplog):
    samples = load_samples(write(tmp_path, ",a,label,\n0,5,0,\n1,7,1,\n2,6,0,\n"))
    assert (samples.feature_names, samples.x.tolist()) == (("a",), [[5], [7], [6]])
    assert "column 0 (from 0) has no name and numbers the rows: left out" in caplog.text
    assert "column 3 (from 0) has no name and is empty: left out" in caplog.text
    with pytest.raises(InputError, match="expected a name for every column, received none for column 0"):
        load_samples(write(tmp_path, ",a,label\n3,5,0\n1,7,1\n"))


def test_values_keep_the_digits_of_a_large_offset(tmp_path):
    samples = load_samples(write(tmp_path, "a,label\n5400123.041,0\n5400123.042,0\n5400123.5,1\n"))
    assert samples.x[:, 0].tolist() == [5400123.041, 5400123.042, 5400123.5]


def test_cells_are_harmless_in_terminals_and_spreadsheets():
    assert plain_cell("parts/a.png") == "parts/a.png"
    assert plain_cell("=cmd|'/c calc'!A1.png") == "./=cmd|'/c calc'!A1.png"
    for start in "+-@\t\r":
        assert plain_cell(f"{start}x") == f"./{start}x"
    assert plain_cell("a\x1b[31m\x9b.png") == r"a\x1b[31m\x9b.png"
