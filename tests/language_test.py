"""The words that CONTRIBUTING.md asks to avoid, in everything that people read."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# Pattern -> what to write instead.
AVOIDED = {
    r"\bstands?\b(?!-in|alone| alone| out\b| for\b)": "is, exists, lies",
    r"\b(tells?|told)\b": "reports, says which, distinguishes",
    r"\bsays\b": "reports, states",
    r"\bbeside\b": "next to, with, along with",
    r"\bby lot\b": "at random",
    r"\bas (it is|they are)\b": "unchanged",
    r"\b(that|those) of\b": "repeat the noun",
    r"\bof which\b": "two sentences",
    r"\bbut for\b": "except",
    r"(?<!there )\b(is|are) no (?!longer\b|more\b)[a-z]": "is not a",
    r"\brising\b": "increasing, sorted",
    r"\bwhole\b(?! numbers?\b)": "complete, entire",
    r"\bhalf there\b": "incomplete",
    r"\bunsound\b": "corrupt, invalid",
    r"\bno numbers\b": "NaN",
    r"\bnot (without|un[a-z]+ed)\b": "say it without the double negation",
    r"\bcalibrated\b": "temperature-scaled, or quantization ranges",
}
_AVOIDED = {re.compile(pattern, re.IGNORECASE): instead for pattern, instead in AVOIDED.items()}

# (file, text that contains the word) -> why it may stay.
ALLOWED: dict[tuple[str, str], str] = {}


def production_files() -> list[Path]:
    return [
        path
        for folder in ("cxr_tfds", "builders", "export")
        for path in sorted((ROOT / folder).rglob("*.py"))
        if not path.name.endswith("_test.py")
    ]


def prose_files() -> list[Path]:
    """Returns Markdown files and HTML templates, but nothing that git ignores."""
    folders = ("docs", "builders", "export", "benchmarks", "cxr_tfds", ".github")
    nested = [path for folder in folders for path in (ROOT / folder).rglob("*")]
    files = [path for path in nested if path.suffix in {".md", ".j2"}] + list(ROOT.glob("*.md"))
    return sorted(path for path in files if "work" not in path.relative_to(ROOT).parts)


def python_texts(path: Path) -> Iterator[tuple[int, str]]:
    """Yields each string of more than one word, and each comment, with its first line number."""
    source = path.read_text(encoding="utf-8")
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
            yield node.lineno, node.value
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


def prose_texts(path: Path) -> Iterator[tuple[int, str]]:
    """Yields the paragraphs of a file, without code blocks and `code`."""
    text = path.read_text(encoding="utf-8")
    text = re.sub(r"^```.*?^```", lambda m: "\n" * m[0].count("\n"), text, flags=re.M | re.S)
    text = re.sub(r"`[^`\n]*`", "`code`", text)
    line = 1
    for paragraph in re.split(r"(\n\s*\n)", text):
        yield line, paragraph
        line += paragraph.count("\n")


def avoided_words(path: Path) -> list[str]:
    name = path.relative_to(ROOT).as_posix()
    found = []
    for line, text in (python_texts if path.suffix == ".py" else prose_texts)(path):
        flat = re.sub(r"\s+", " ", text)
        for pattern, instead in _AVOIDED.items():
            for match in pattern.finditer(flat):
                around = flat[max(0, match.start() - 40) : match.end() + 40]
                if not any(name == file and allowed in around for file, allowed in ALLOWED):
                    found.append(f"{name}:{line}: {match[0]!r} ({instead}) in: …{around}…")
    return found


@pytest.mark.parametrize(
    "path", production_files() + prose_files(), ids=lambda path: path.relative_to(ROOT).as_posix()
)
def test_avoids_words(path: Path) -> None:
    found = avoided_words(path)
    assert not found, "\n".join(["", *found])


def test_docstrings_begin_with_a_sentence() -> None:
    wrong = []
    for path in production_files():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                docstring = ast.get_docstring(node) or "Has none."
                if re.match(r"(Raises|Returns|Args|Yields):|[a-z]", docstring):
                    wrong.append(f"{path.relative_to(ROOT)}: {docstring.splitlines()[0]}")
    assert not wrong, "\n".join(["", *wrong])


def test_allowed_texts_still_exist() -> None:
    for file, text in ALLOWED:
        flat = re.sub(r"\s+", " ", (ROOT / file).read_text(encoding="utf-8"))
        assert text in flat, f"remove {text!r} of {file} from ALLOWED"


@pytest.mark.parametrize(
    ("text", "avoided"),
    [
        ("The file stands there.", True),
        ("A stand-in dataset; `x` stands for blur.", False),
        ("It is no network.", True),
        ("There is no network. It is no longer there.", False),
        ("The values are those of the run.", True),
        ("A whole number.", False),
    ],
)
def test_patterns(text: str, avoided: bool) -> None:
    assert any(pattern.search(text) for pattern in _AVOIDED) == avoided
