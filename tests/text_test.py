"""Tests aligned tables."""

from cxr_tfds.text import markdown_table, text_table


def test_text_table_aligns_columns_of_uneven_rows() -> None:
    rows = [("split", "images"), ("train", 7), ("test",)]
    assert text_table(rows) == "split  images\ntrain  7\ntest"
    assert text_table(rows, "<>") == "split  images\ntrain       7\ntest"
    assert text_table([]) == ""


def test_markdown_table_has_a_header_rule() -> None:
    rows = [("split", "n"), ("train", 10)]
    assert markdown_table(rows) == "| split | n  |\n|-------|----|\n| train | 10 |"
