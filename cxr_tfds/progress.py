"""Progress of long work on stderr: a bar with the time left on a terminal, a line elsewhere."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator

from cxr_tfds.text import say, screen_width


@contextlib.contextmanager
def progress_bar(
    label: str, total: int, *, unit: str = "image", announce: bool = True
) -> Iterator[Callable[[int], object]]:
    """Yields a function that takes the number of items finished since its last call.

    The bar disappears at the end of the work. Where stderr is not a terminal, such as in a log
    file, the label is printed instead, unless `announce` is False.

    Args:
      label: What is done, such as "scoring test".
      total: Number of items.
      unit: What an item is.
      announce: Whether to print the label without a terminal.
    """
    width = None if sys.stderr is None else screen_width(sys.stderr)
    if width is None:
        if announce:
            say(f"{label} ({total:,} {unit}s)")
        yield lambda count: None
        return
    from tqdm import tqdm

    with tqdm(total=total, desc=label, unit=unit, leave=False, ncols=width, file=sys.stderr) as bar:
        yield bar.update
