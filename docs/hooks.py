"""MkDocs hooks: the site also has the files of the repository that its pages link to.

The pages stay readable in the repository, where ``../configs/x.py`` links to a file. On the site
such a file becomes a page with its text, a folder becomes a list of its files, and anything else
(raw results, pictures) is copied. A link to nothing is left as it is, and MkDocs refuses it.
"""

import re
from pathlib import Path
from posixpath import dirname, relpath

from mkdocs.structure.files import File

DOCS = Path(__file__).parent
ROOT = DOCS.parent
# pages of the site that are kept elsewhere in the repository
PAGES = {'changelog.md': 'CHANGELOG.md', 'benchmarks.md': 'benchmarks/README.md'}
LANGUAGES = {
    '.py': 'python',
    '.md': 'markdown',
    '.sh': 'bash',
    '.yml': 'yaml',
    '.cpp': 'cpp',
    '.csv': 'text',
}
ROLE = re.compile(r':(?:func|class|meth|mod|attr):<code>~?([\w.]+)</code>')
LINK = re.compile(r'(?<=\]\()([^)#\s]+)')


def uri(path: Path) -> str:
    """The source address on the site of a file or folder of the repository."""
    name = path.relative_to(ROOT).as_posix()
    for page, source in PAGES.items():
        if name == source:
            return page
    if path.is_relative_to(DOCS):
        return path.relative_to(DOCS).as_posix()
    if path.is_dir():
        return f'files/{name}/index.md'
    return f'files/{name}.md' if path.suffix in LANGUAGES else f'files/{name}'


def targets(folder: Path, text: str) -> list[Path]:
    """Files and folders of the repository, outside docs/, that a page in a folder links to."""
    found = [(folder / link).resolve() for link in LINK.findall(text) if '://' not in link]
    return [
        path for path in found
        if path.is_relative_to(ROOT) and path.exists() and not path.is_relative_to(DOCS)
    ]  # fmt: skip


def inside(folder: Path) -> list[Path]:
    """What a folder's page lists."""
    names = sorted(path for path in folder.iterdir() if path.name[0] not in '.')
    return [path for path in names if path.name not in ('__pycache__', '__init__.py')]


def about(path: Path) -> str:
    """The first sentence of a config's comment."""
    found = re.match(r'((?:# .*\n)+)', path.read_text()) if path.suffix == '.py' else None
    return re.split(r'(?<=\.) ', found[1].replace('# ', '').replace('\n', ' '))[0] if found else ''


def shown(path: Path) -> str:
    """The page that shows a folder or a text file."""
    head = f'---\nsearch:\n  exclude: true\n---\n# {path.relative_to(ROOT).as_posix()}\n\n'
    if path.is_dir():
        here = dirname(uri(path))
        items = [f'* [`{p.name}`]({relpath(uri(p), here)}) {about(p)}' for p in inside(path)]
        return head + '\n'.join(items)
    return f'{head}````{LANGUAGES[path.suffix]}\n{path.read_text()}\n````\n'


def on_files(files, config):
    """Adds the pages kept elsewhere, and all that pages link to."""
    for page, source in PAGES.items():
        text = (ROOT / source).read_text()
        files.append(File.generated(config, page, content=text))
    todo = [path for page in DOCS.rglob('*.md') for path in targets(page.parent, page.read_text())]
    for source in PAGES.values():
        todo += targets((ROOT / source).parent, (ROOT / source).read_text())
    done = set()
    while todo:
        path = todo.pop()
        if path in done or uri(path) in PAGES:
            continue
        done.add(path)
        if path.is_dir():
            todo += inside(path)
        if uri(path).endswith('.md'):
            files.append(File.generated(config, uri(path), content=shown(path)))
        else:
            files.append(File.generated(config, uri(path), abs_src_path=str(path)))
    return files


def on_page_markdown(markdown, page, **_):
    """Rewrites links that lead out of docs/ to where the site has their targets."""
    src = page.file.src_uri
    if src.startswith('files/'):
        return markdown
    folder = (ROOT / PAGES[src]).parent if src in PAGES else (DOCS / src).parent

    def rewrite(match):
        path = (folder / match[0]).resolve()
        if '://' in match[0] or not path.is_relative_to(ROOT) or not path.exists():
            return match[0]
        return relpath(uri(path), dirname(src) or '.')

    return LINK.sub(rewrite, markdown)


def on_page_content(html, **_):
    """Links names that docstrings mark in Sphinx's way, where the site documents them."""
    return ROLE.sub(r'<autoref identifier="\1" optional><code>\1</code></autoref>', html)
