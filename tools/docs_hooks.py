"""mkdocs hooks: pages of the documentation that are made from other files of the repository."""

from __future__ import annotations

import json
import re
from pathlib import Path, PurePosixPath
from posixpath import normpath, relpath
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
# File in the repository -> page of the documentation.
PAGES = {
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "security.md",
    "benchmarks/README.md": "benchmarks.md",
    **{
        readme.relative_to(ROOT).as_posix(): f"datasets/{readme.parent.name}.md"
        for readme in sorted(ROOT.glob("builders/*/README.md"))
    },
    **{
        notebook.relative_to(ROOT).as_posix(): f"notebooks/{notebook.stem}.md"
        for notebook in sorted(ROOT.glob("notebooks/*.ipynb"))
    },
}
SETTINGS = "<!-- settings table -->"


def on_files(files: Files, config: MkDocsConfig, **_: Any) -> Files:
    """Adds the generated pages."""
    for source, page in PAGES.items():
        path = ROOT / source
        if path.suffix == ".ipynb":
            text = notebook_text(path)
        else:
            text = relink(path.read_text(encoding="utf-8"), source, page, config.repo_url or "")
        if page.startswith("datasets/"):
            text = f"# {path.parent.name}\n\n{text}"
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, **_: Any) -> str:
    """Inserts the table of training settings, and mends links that lead out of docs/."""
    if SETTINGS in markdown:
        from cxr_tfds.training.settings import settings_table

        markdown = markdown.replace(SETTINGS, settings_table())
    if page.file.src_uri in PAGES.values():
        return markdown  # `on_files` has changed its links
    return relink(markdown, f"docs/{page.file.src_uri}", page.file.src_uri, config.repo_url or "")


def relink(text: str, source: str, page: str, repository: str) -> str:
    """Returns the text with its relative links changed to what they are called from `page`."""

    def change(match: re.Match[str]) -> str:
        target, _, anchor = match[1].partition("#")
        if not target or ":" in target:
            return match[0]
        target = normpath(str(PurePosixPath(source).parent / target))
        if target in PAGES:
            target = PAGES[target]
        elif target.startswith("docs/"):
            target = target.removeprefix("docs/")
        else:
            return f"]({repository}/blob/main/{target})"
        anchor = f"#{anchor}" if anchor else ""
        return f"]({relpath(target, PurePosixPath(page).parent)}{anchor})"

    return re.sub(r"\]\(([^)\s]+)\)", change, text)


def notebook_text(path: Path) -> str:
    """Returns the cells of a notebook as Markdown."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    texts = [
        "".join(cell["source"])
        if cell["cell_type"] == "markdown"
        else f"```python\n{''.join(cell['source'])}\n```"
        for cell in cells
    ]
    return "\n\n".join(texts) + "\n"
