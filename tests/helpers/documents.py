"""The code blocks of Markdown files."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
SHELLS = ("bash", "sh")
_NOT_RUN = re.compile(r"<!-- not run: (.+) -->")


@dataclasses.dataclass(frozen=True)
class Block:
    """A fenced code block.

    Attributes:
      file: Path in the repository.
      line: Number of the line after the fence.
      language: The word after the fence; empty without one.
      code: The lines inside.
      reason: Why the block is not run; empty if it is.
    """

    file: str
    line: int
    language: str
    code: str
    reason: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


def read_blocks(path: Path) -> list[Block]:
    """Returns the code blocks of a Markdown file in order.

    A block is not run if the line above its fence is `<!-- not run: REASON -->`.
    """
    blocks: list[Block] = []
    lines = path.read_text(encoding="utf-8").splitlines()
    start, fence = -1, ""
    for number, line in enumerate(lines):
        text = line.strip()
        if start < 0 and (match := re.match(r"(```+)(\w*)", text)):
            start, fence, language = number, match[1], match[2]
        elif start >= 0 and text == fence:
            above = _NOT_RUN.fullmatch(lines[start - 1].strip()) if start else None
            code = "\n".join(lines[start + 1 : number]) + "\n"
            name = path.relative_to(ROOT).as_posix()
            blocks.append(Block(name, start + 2, language, code, above[1] if above else ""))
            start = -1
    assert start < 0, f"{path}:{start + 1}: the block is not closed"
    return blocks
