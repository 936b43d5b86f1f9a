"""Tests aligned tables and percentages."""

import io

import pytest

from cxr_tfds.text import fold_text, markdown_table, percent, percents_in_order, text_table


def test_text_table_aligns_columns_of_uneven_rows() -> None:
    rows = [("split", "images"), ("train", 7), ("test",)]
    assert text_table(rows) == "split  images\ntrain  7\ntest"
    assert text_table(rows, "<>") == "split  images\ntrain       7\ntest"
    assert text_table([]) == ""


ROWS = [
    ("format", "split", "agreement", "AUC", "note"),
    ("int8", "test", "99.50%", "0.9912", "the last bin has few images"),
    ("float32", "test", "100.00%", "0.9920"),
]


def test_columns_that_do_not_fit_follow_below_with_the_names_of_the_rows() -> None:
    assert text_table(ROWS[:2], "<<>>", keys=2, indent="  ", width=40) == (
        "  format  split  agreement     AUC\n"
        "  int8    test      99.50%  0.9912\n"
        "\n"
        "  format  split  note\n"
        "  int8    test   the last bin has few\n"
        "                 images"
    )


@pytest.mark.parametrize("width", range(24, 90, 3))
def test_tables_keep_every_word_within_the_width(width: int) -> None:
    words = {word for row in ROWS for cell in row for word in cell.split()}
    text, markdown = text_table(ROWS, width=width), markdown_table(ROWS, width=max(width, 42))
    for table, limit in ((text, width), (markdown, max(width, 42))):
        assert max(map(len, table.splitlines())) <= limit
        assert words <= set(table.split())


def test_a_word_longer_than_the_screen_is_not_broken() -> None:
    address = "https://example.org/" + "x" * 80
    assert address in text_table([("model", "source"), ("edge", address)], width=80)


def test_folds_sentences_but_not_commands() -> None:
    command = "Build it with: tfds build xray_folder --data_dir data"
    text = fold_text(f"- one two three four\nshort\n{command}", 12, indent=2)
    assert text == f"- one two\n  three four\nshort\n{command}"
    assert fold_text(text, None) == text


def test_tables_fit_the_terminal_and_files_have_no_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("COLUMNS", "40")
    assert max(map(len, text_table(ROWS).splitlines())) > 40
    monkeypatch.setattr("sys.stdout", Terminal())
    assert max(map(len, text_table(ROWS).splitlines())) <= 40


def test_markdown_table_has_a_header_rule() -> None:
    rows = [("split", "n"), ("train", 10)]
    assert markdown_table(rows) == "| split | n  |\n|-------|----|\n| train | 10 |"


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (0.16, 0, "16 %"),
        (0.0, 0, "0 %"),
        (0.004, 0, "<1 %"),
        (0.004, 1, "0.4 %"),
        (0.0004, 1, "<0.1 %"),
        (0.996, 0, ">99 %"),
        (0.9996, 1, ">99.9 %"),
        (1.0, 0, "100 %"),
    ],
)
def test_percent(value: float, digits: int, text: str) -> None:
    assert percent(value, digits) == text


@pytest.mark.parametrize(
    ("value", "threshold", "texts"),
    [
        (0.16, 0.47, ("16 %", "47 %")),
        (0.94, 0.47, ("94 %", "47 %")),
        (0.47, 0.47, ("47 %", "47 %")),
        (0.466, 0.472, ("46.6 %", "47.2 %")),  # both are 47 %, which would be positive
        (0.002, 0.004, ("0.2 %", "0.4 %")),
        (0.4719, 0.47191, ("47.190 %", "47.191 %")),
    ],
)
def test_rounding_never_contradicts_a_decision(
    value: float, threshold: float, texts: tuple[str, str]
) -> None:
    assert percents_in_order(value, threshold) == texts
