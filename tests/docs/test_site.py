"""The documentation site holds every document in both languages, fetches nothing, and is not built with a broken link."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.browser.chromium import launch_browser
from tests.conftest import ROOT
from tests.docs.documents import ORIGINALS, TWINS
from tests.servers import Unavailable

LANGUAGES = ("en", "uk")


def build(root: Path, site: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, root / "deploy/docs/build.py", site], capture_output=True, text=True, encoding="utf-8", timeout=180
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("docs") / "site"
    result = build(ROOT, folder)
    assert (result.returncode, result.stderr) == (0, "")
    return folder


def find_pages(folder: Path) -> list[Path]:
    """Return the pages of documents in one language, without source files and the 404 page."""
    return [page for page in folder.rglob("*.html") if page.name != "404.html" and not {"code", "uk"} & {*page.relative_to(folder).parts}]


def test_every_document_is_a_page_in_both_languages(site: Path) -> None:
    english, ukrainian = find_pages(site), find_pages(site / "uk")
    assert len(english) == len(ukrainian) == len(ORIGINALS)
    translated = [page for page in ukrainian if ">English</a>" in read_article(page)]
    assert len(translated) == len(TWINS)


def read_article(page: Path) -> str:
    return page.read_text(encoding="utf-8").partition("<article")[2].partition("</article>")[0]


def test_menu_leads_to_every_document(site: Path) -> None:
    menu = (site / "index.html").read_text(encoding="utf-8").partition("<article")[0]
    missing = [str(page.relative_to(site)) for page in find_pages(site) if f'href="./{page.relative_to(site)}"' not in menu]
    assert {*missing} <= {"index.html", "decisions/template.html"}, "add the page to MENU in deploy/docs/build.py"


def test_readme_is_the_home_page(site: Path) -> None:
    assert 'href="QUICKSTART.html"' in read_article(site / "index.html")
    assert 'href="code/apps/etl/tables.py.html"' in read_article(site / "ETL.html")


def test_links_to_the_other_language_work(site: Path) -> None:
    for page in [*find_pages(site), *find_pages(site / "uk")]:
        for target in re.findall(r'<a href="([^"]+)">(?:English|Українською)</a>', read_article(page)):
            assert (page.parent / target).is_file(), f"{page}: {target}"


@pytest.mark.parametrize("language", LANGUAGES)
def test_search_indexes_the_documents_of_its_language(site: Path, language: str) -> None:
    index = (site / ("" if language == "en" else language) / "search.json").read_text(encoding="utf-8")
    assert {"en": "high-water mark", "uk": "сховище"}[language] in index
    assert "class Target" not in index, "source files are linked to, not searched"


def test_search_works_on_pages_opened_from_the_disk(site: Path) -> None:
    try:
        with launch_browser() as chromium:
            page = chromium.new_page()
            page.goto((site / "uk/index.html").as_uri())
            page.keyboard.press("Control+k")
            page.get_by_role("combobox").fill("словник")
            page.get_by_role("option").first.wait_for()
            page.keyboard.press("Enter")
            page.wait_for_url(re.compile("h=%D1%81%D0%BB%D0%BE%D0%B2"))
    except Unavailable as error:
        pytest.skip(str(error))


def test_no_page_fetches_anything_from_another_host(site: Path) -> None:
    for page in site.rglob("*.html"):
        fetched = re.findall(r'<(?:script|img|link)\b[^>]*\b(?:src|href)="((?:https?:)?//[^"]+)"', page.read_text(encoding="utf-8"))
        assert not fetched, page


@pytest.mark.parametrize("link", ["NOWHERE.md", "ETL.md#nowhere", "../apps/nowhere.py"])
def test_broken_link_fails_the_build(tmp_path: Path, link: str) -> None:
    root = tmp_path / "project"
    (root / "docs").mkdir(parents=True)
    shutil.copytree(ROOT / "deploy/docs", root / "deploy/docs")
    for document in [*ORIGINALS, *TWINS]:
        target = root / document.relative_to(ROOT)
        target.parent.mkdir(exist_ok=True, parents=True)
        target.write_text(f"# {document.stem}\n")
    (root / "docs/ADMIN.md").write_text(f"# Admin\n\n[broken]({link})\n")
    result = build(root, tmp_path / "site")
    assert (
        result.returncode == 1
        and "ADMIN.md" in result.stderr
        and link.partition("#")[2] in result.stderr
        and "Traceback" not in result.stderr
    )


def test_other_folder_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "precious").touch()
    assert build(ROOT, tmp_path).returncode == 2 and (tmp_path / "precious").exists()


def test_wrong_arguments_are_a_usage_error() -> None:
    assert build(ROOT, Path("--help")).returncode == 2
