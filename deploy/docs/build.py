"""Build the documentation site: `python deploy/docs/build.py [FOLDER]`, by default var/site; Ukrainian pages are in its folder uk.

On GitHub the documents link to each other, to README.md above docs/ and to source files. A site has neither of the latter, so the
documents are copied into one folder for each language, README as its home page, and each linked source file becomes a page of code.
A document without a Ukrainian twin is shown in English. A link or an anchor that leads nowhere fails the build (exit code 1).
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
TOP_LEVEL = ("README", "CHANGELOG", "CODE_OF_CONDUCT", "CONTRIBUTING", "SECURITY")
# docs/SECURITY.md has the name already.
RENAMED = {"README": "index", "SECURITY": "REPORTING"}
FILE_SEARCH = "iframe-worker.js"
PICTURES = (".png", ".svg")
LEXERS = {".py": "python", ".sh": "sh", ".sql": "sql", ".yml": "yaml", ".yaml": "yaml", ".toml": "toml", ".json": "json", ".html": "html"}
LANGUAGES = ("en", "uk")
NAMES = {"en": "English", "uk": "Українська"}
DESCRIPTIONS = {"en": "An ETL control plane for an online shop, on Django", "uk": "Керування ETL інтернет-магазину на Django"}

# A heading of the menu in both languages, and its pages, or the folder of its numbered records. Page titles are the documents' own.
MENU: tuple[tuple[tuple[str, str], tuple[str, ...] | str], ...] = (
    (("Getting started", "Початок"), ("index.md", "QUICKSTART.md")),
    (("User guide", "Користування"), ("ADMIN.md", "OPERATIONS.md", "METABASE.md", "DATA_DICTIONARY.md")),
    (("How it works", "Як це працює"), ("ETL.md", "ARCHITECTURE.md", "SCALING.md", "SECURITY.md")),
    (("Deployment", "Розгортання"), ("DATABASES.md", "KUBERNETES.md", "MONITORING.md", "AIRFLOW.md")),
    (("Project", "Проєкт"), ("CONTRIBUTING.md", "CHANGELOG.md", "CODE_OF_CONDUCT.md", "REPORTING.md")),
    (("Decisions", "Рішення"), "decisions"),
)

# A fenced block, or words in backticks: a link in it is an example.
CODE = re.compile(r"(^ *(`{3,})[^\n]*\n.*?^ *\2`*$|`[^`\n]*`)", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(?<=\]\()([^)\s#]+)(?=[)#])")
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
LINK_TO_TWIN = re.compile(r"\A(# .+\n\n)\[(Українською|English)\]\([^)]+\)$", re.MULTILINE)


class Unbuilt(Exception):
    """The site cannot be built, mostly because of a broken link; the message names it."""


def main(arguments: list[str]) -> int:
    if len(arguments) > 1 or any(argument.startswith("-") for argument in arguments):
        print("usage: deploy/docs/build.py [FOLDER]", file=sys.stderr)
        return 2
    site = Path(arguments[0] if arguments else ROOT / "var" / "site").resolve()
    if site.exists() and not (site / "search.json").exists():
        print(f"{site} exists and is no site of ours; name another folder.", file=sys.stderr)
        return 2
    shutil.rmtree(site, ignore_errors=True)
    try:
        with TemporaryDirectory() as folder:
            for language in LANGUAGES:
                build(language, Path(folder, language), site if language == "en" else site / language)
    except Unbuilt as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{site}/index.html")
    return 0


def build(language: str, folder: Path, site: Path) -> None:
    """Build the pages of one language from a copy in `folder`."""
    arrange(language, folder / "docs")
    # JSON is YAML; Zensical reads MkDocs' format.
    write(folder / "mkdocs.yml", json.dumps(settings(language, folder / "docs"), ensure_ascii=False))
    result = subprocess.run(
        [sys.executable, "-m", "zensical", "build", "--strict"],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if result.returncode:
        # Where a link is broken, Zensical adds a traceback of its own, which says no more.
        output = COLOUR.sub("", result.stdout)
        shown = output.partition("Traceback")[0] if "Aborted because --strict" in output else output
        raise Unbuilt(f"The documentation in {NAMES[language]} cannot be built:\n{shown.strip()}")
    shutil.copytree(folder / "site", site)


def settings(language: str, docs: Path) -> dict[str, Any]:
    home = "." if language == "en" else ".."
    return {
        "site_name": "TechMarket",
        "site_description": DESCRIPTIONS[language],
        "docs_dir": "docs",
        "site_dir": "site",
        "use_directory_urls": False,  # pages open from the disk too
        "theme": {
            "name": "material",
            "language": language,
            "font": False,  # nothing is fetched from elsewhere
            "features": [
                "navigation.top",
                "navigation.footer",
                "navigation.indexes",
                "toc.follow",
                "search.highlight",
                "content.code.copy",
            ],
            "palette": [
                {"media": "(prefers-color-scheme: light)", "scheme": "default"},
                {"media": "(prefers-color-scheme: dark)", "scheme": "slate"},
            ],
        },
        "extra": {
            "generator": False,
            "polyfills": [FILE_SEARCH],  # Zensical would fetch one like it from another host
            "alternate": [
                {"name": NAMES["en"], "lang": "en", "link": f"{home}/index.html"},
                {"name": NAMES["uk"], "lang": "uk", "link": f"{home}/uk/index.html"},
            ],
        },
        "plugins": [{"search": {}}, {"offline": {}}],
        "markdown_extensions": [
            "attr_list",
            "tables",
            {"toc": {"permalink": True, "slugify": {"object": "pymdownx.slugs.slugify", "kwds": {"case": "lower"}}}},
            "pymdownx.highlight",
            "pymdownx.superfences",
        ],
        "nav": list(menu(language, docs)),
    }


def menu(language: str, docs: Path) -> Iterator[dict[str, list[str]]]:
    for headings, pages in MENU:
        if isinstance(pages, str):
            records = sorted(path.name for path in (docs / pages).glob("[0-9]*.md"))
            pages = (f"{pages}/index.md", *(f"{pages}/{record}" for record in records))
        yield {headings[LANGUAGES.index(language)]: list(pages)}


def arrange(language: str, docs: Path) -> None:
    """Write the documents in one language, the pictures, and a page for every source file that is linked to."""
    linked: set[PurePosixPath] = set()
    for document in documents(language):
        text = rewrite_links((ROOT / document).read_text(encoding="utf-8"), document, linked.add)
        write(docs / place(document), LINK_TO_TWIN.sub(rf'\1<p data-search-exclude><a href="{twin(language, document)}">\2</a></p>', text))
    for picture in (path for path in (ROOT / "docs").rglob("*") if path.suffix in PICTURES):
        target = docs / picture.relative_to(ROOT / "docs")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(picture, target)
    shutil.copyfile(Path(__file__).with_name(FILE_SEARCH), docs / FILE_SEARCH)
    # A folder's page lists its files, so that they need pages too.
    listed = {path / name for path in linked for name in listing(path) if Path(name).suffix not in PICTURES}
    for path in linked | listed:
        write(docs / place(path), code_page(path))


def documents(language: str) -> Iterator[PurePosixPath]:
    """Yield the path of each document in this language, or in English where it has no twin, relative to the root."""
    for path in (*(ROOT / f"{name}.md" for name in TOP_LEVEL), *sorted((ROOT / "docs").rglob("*.md"))):
        if not path.name.endswith(".uk.md"):
            translated = path.with_suffix(".uk.md")
            chosen = translated if language == "uk" and translated.exists() else path
            yield PurePosixPath(chosen.relative_to(ROOT).as_posix())


def place(path: PurePosixPath) -> PurePosixPath:
    """Return where a file or folder of the repository stands among the pages; a document and its twin stand in one place."""
    if path.suffix == ".md":
        name = path.name.partition(".")[0]
        if path.parts[0] == "docs":
            return path.relative_to("docs").with_name(f"{'index' if name == 'README' else name}.md")
        return PurePosixPath(f"{RENAMED.get(name, name)}.md")
    if path.parts[0] == "docs" and path.suffix in PICTURES:
        return path.relative_to("docs")
    # Zensical passes over names that begin with a dot.
    visible = "/".join(part.lstrip(".") for part in path.parts)
    return PurePosixPath("code", f"{visible}/index.md" if (ROOT / path).is_dir() else f"{visible}.md")


def twin(language: str, document: PurePosixPath) -> str:
    """Return the address of the same page in the other language."""
    page = place(document).with_suffix(".html")
    home = "../" * (len(page.parts) - 1)
    return f"{home}uk/{page}" if language == "en" else f"{home}../{page}"


def rewrite_links(text: str, document: PurePosixPath, link_to_code: Callable[[PurePosixPath], object]) -> str:
    """Return the text with its links as the pages have them, code left alone; raise Unbuilt for one that leads nowhere."""

    def rewrite(found: re.Match[str]) -> str:
        target = Path(os.path.normpath(ROOT / document.parent / found[0]))
        if re.match("[a-z]+:", found[0]):
            return found[0]
        # Zensical looks after links between pages and their anchors, not after files.
        if not target.exists() or not target.is_relative_to(ROOT):
            raise Unbuilt(f"{document}: the link to {found[0]} leads to no file of the repository.")
        path = PurePosixPath(target.relative_to(ROOT).as_posix())
        if place(path).parts[0] == "code":
            link_to_code(path)
        return relative(place(path), document)

    # Each piece of prose is followed by the code and by its fence, which the code holds already.
    pieces = CODE.split(text)
    return "".join(LINK.sub(rewrite, piece) if number % 3 == 0 else piece for number, piece in enumerate(pieces) if number % 3 != 2)


def relative(page: PurePosixPath, document: PurePosixPath) -> str:
    return os.path.relpath(page, place(document).parent).replace(os.sep, "/")


def code_page(path: PurePosixPath) -> str:
    """Return a page that shows a source file, or lists a folder's. Links lead to it, the search does not."""
    head = f"---\nsearch:\n  exclude: true\n---\n\n# {path}\n\n"
    if (ROOT / path).is_dir():
        return head + "".join(f"- [{name}]({relative(place(path / name), path)})\n" for name in listing(path))
    text = (ROOT / path).read_text(encoding="utf-8")
    fence = "`" * max(3, 1 + max((len(ticks) for ticks in re.findall("`+", text)), default=0))
    return f"{head}{fence}{LEXERS.get(path.suffix, 'text')}\n{text}{fence}\n"


def listing(path: PurePosixPath) -> list[str]:
    """Return the names of a folder's files, none of a file."""
    return sorted(file.name for file in (ROOT / path).iterdir() if file.is_file()) if (ROOT / path).is_dir() else []


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
