"""What MkDocs is told besides `mkdocs.yml`: pages that are made when the site is built, and links that leave `docs/`.

Pages stay as they are read in the repository. README of the tree is the first page of the site; README of `docs/` the
table of all; a notebook's cells become a page; the reference is made by `reference.py`.
"""

import base64
import logging
import posixpath
import re
import sys
from pathlib import Path
from typing import Any

import nbformat
from mkdocs.structure.files import File, Files

sys.path.insert(0, str(Path(__file__).parent))
import reference

ROOT = Path(__file__).parents[2]
WARN = logging.getLogger("mkdocs.hooks.glitchflow")
# pages of the tree that lie outside docs/, or have another name on the site
ELSEWHERE = {
    "README.md": "index.md",
    "docs/README.md": "pages.md",
    "docs/tutorial.ipynb": "tutorial.md",
    "docs/gw150914.ipynb": "gw150914.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "security.md",
    "launch/README.md": "launch.md",
    "containers/README.md": "images.md",
}
SOURCES = {page: source for source, page in ELSEWHERE.items()}


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that lie elsewhere, the notebook, and the reference."""
    made = {page: (ROOT / source).read_text() for page, source in SOURCES.items()}
    pictures: dict[str, bytes] = {}
    for page in (page for page, source in SOURCES.items() if source.endswith(".ipynb")):
        made[page], drawn = notebook(made[page], page.removesuffix(".md"))
        pictures |= drawn
    made |= {f"reference/{name}.md": make() for name, make in reference.PAGES.items()}
    for path, content in {**made, **pictures}.items():
        files.append(File.generated(config, path, content=content))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Links as the site has them, and blocks of code without the word that tells the tests how they are tried."""
    here = page.file.src_uri
    source = SOURCES.get(here, f"docs/{here}")
    markdown = re.sub(r"^\[[\w.]+\]\((gallery/\w+\.py)\)$", shown, markdown, flags=re.M)
    links = re.compile(r"(!?\[[^\]]*\])\((?!\w+:|#)([^)#\s]+)(#[^)]*)?\)")
    text = (
        markdown
        if here.startswith("reference/")
        else links.sub(lambda link: moved(link, source, here), markdown)
    )
    text = re.sub(r"^```(\w+) ([\w-]+\.\w+)$", r'```\1 title="\2"', text, flags=re.M)
    return re.sub(r"^```(\w+) \w+$", r"```\1", text, flags=re.M)


def shown(link: re.Match[str]) -> str:
    """A script of the gallery, folded, in place of a line that is a link to it."""
    code = (ROOT / "docs" / link[1]).read_text().rstrip().replace("\n", "\n    ")
    return f'??? example "docs/{link[1]}"\n\n    ```python\n    {code}\n    ```'


def moved(link: re.Match[str], source: str, here: str) -> str:
    """A link of a page of the tree as the page of the site has it; to what is no page, its words alone."""
    words, target, anchor = link.groups(default="")
    path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
    page = ELSEWHERE.get(path) or (path.removeprefix("docs/") if path.startswith("docs/") else "")
    if not page:
        return words[1:-1]
    return f"{words}({posixpath.relpath(page, posixpath.dirname(here) or '.')}{anchor})"


def on_page_content(html: str, page: Any, **_: Any) -> str:
    """Warn, which ends a strict build, of a list or a table that Markdown took for a paragraph's lines."""
    for line in re.findall(
        r"^(?:<p>)?((?:[-*] |\| |\d+\. ).*)", re.sub(r"<pre.*?</pre>", "", html, flags=re.S), re.M
    ):
        WARN.warning(f"{page.file.src_uri}: is no list and no table on the site: {line[:80]}")
    return html


def on_post_page(output: str, page: Any, **_: Any) -> str:
    """Warn of what a page would fetch from elsewhere when it is read."""
    for url in re.findall(r'(?:src=|<link[^>]* rel="stylesheet"[^>]* href=)"(https?://[^"]*)', output):
        WARN.warning(f"{page.file.src_uri}: is fetched when the page is read: {url}")
    return output


def notebook(text: str, under: str) -> tuple[str, dict[str, bytes]]:
    """A notebook as a page, and its pictures, which lie under a name."""
    parts, pictures = [], {}
    for number, cell in enumerate(nbformat.reads(text, as_version=4).cells):
        if cell.cell_type == "markdown":
            parts.append(cell.source)
            continue
        parts.append(f"```python\n{cell.source}\n```")
        for k, output in enumerate(cell.outputs):
            data = output.get("data", {})
            if "image/png" in data:
                name = f"{under}/{number}-{k}.png"
                pictures[name] = base64.b64decode(data["image/png"])
                parts.append(f"![What the cell above draws]({name})")
            else:
                parts.append(f"```text\n{(output.get('text') or data['text/plain']).rstrip()}\n```")
    return "\n\n".join(parts), pictures
