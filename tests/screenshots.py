"""`make screenshots`: set up a demo shop with faults, make some runs, and save screenshots of the pages to docs/images/."""

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from playwright.sync_api import Browser

ROOT = Path(__file__).resolve().parent.parent
IMAGES = ROOT / "docs" / "images"
sys.path.insert(0, str(ROOT))

DESKTOP, PHONE = {"width": 1440, "height": 900}, {"width": 390, "height": 844}
# Each language and each theme in both widths: four screenshots per page.
VARIANTS = (("en", "light", DESKTOP), ("uk", "dark", DESKTOP), ("uk", "light", PHONE), ("en", "dark", PHONE))
LOCALES = {"en": "en-GB", "uk": "uk-UA"}


def find_newest(label: str, **where: Any) -> Callable[[], int]:
    def query_newest() -> int:
        from django.apps import apps

        return int(apps.get_model(label)._default_manager.filter(**where).order_by("-pk").values_list("pk", flat=True)[0])

    return query_newest


# Name of the file, URL name of the page, and a function that returns the id of its row.
PAGES: tuple[tuple[str, str, Callable[[], int] | None], ...] = (
    ("login", "admin:login", None),
    ("overview", "admin:index", None),
    ("runs", "admin:orchestration_run_changelist", None),
    ("run", "admin:orchestration_run_change", find_newest("orchestration.Run", state="succeeded", dry_run=False)),
    ("failed-run", "admin:orchestration_run_change", find_newest("orchestration.Run", state="failed")),
    ("dry-run", "admin:orchestration_run_change", find_newest("orchestration.Run", dry_run=True)),
    ("run-now", "admin:orchestration_run_start", None),
    ("preview", "admin:orchestration_run_preview", find_newest("orchestration.Run", dry_run=True)),
    ("days", "admin:orchestration_dayproof_changelist", None),
    ("payments", "admin:orchestration_paymentmismatch_changelist", None),
    ("open-rejects", "admin:orchestration_standingreject_changelist", None),
    ("open-reject", "admin:orchestration_standingreject_change", find_newest("orchestration.StandingReject")),
    ("rejects", "admin:orchestration_reject_changelist", None),
    ("reject", "admin:orchestration_reject_change", find_newest("orchestration.Reject")),
    ("schedules", "admin:django_celery_beat_periodictask_changelist", None),
    (
        "schedule",
        "admin:django_celery_beat_periodictask_change",
        find_newest("django_celery_beat.PeriodicTask", task="techmarket.scheduled"),
    ),
    ("facts", "admin:dwh_factsales_changelist", None),
    ("fact", "admin:dwh_factsales_change", find_newest("dwh.FactSales")),
    ("customers", "admin:dwh_dimcustomer_changelist", None),
    ("users", "admin:auth_user_changelist", None),
    ("security", "mfa_index", None),
    ("audit-log", "admin:audit_entry_changelist", None),
    ("audit-entry", "admin:audit_entry_change", find_newest("audit.Entry", deed="run_started")),
)


def manage(*arguments: str, fails: bool = False, **settings: str) -> None:
    """Run a command; with `fails` it must fail, for the screenshot of a failed run."""
    command = [sys.executable, str(ROOT / "manage.py"), *arguments]
    stderr = subprocess.DEVNULL if fails else None
    result = subprocess.run(command, cwd=ROOT, env=os.environ | settings, stdout=subprocess.DEVNULL, stderr=stderr)
    if bool(result.returncode) != fails:
        raise SystemExit(f"screenshots: {' '.join(arguments)} exits with {result.returncode}")


def set_up_shop() -> None:
    manage("migrate_all", "-v", "0")
    manage("generate_data", "--replace")
    manage("run_etl", "--mode", "full")
    manage("generate_data", "--changes", "40")
    manage("run_etl")
    manage("generate_data", "--faults")
    manage("run_etl", "--dry-run")
    manage("run_etl", ETL_BATCH_ORDERS="40", ETL_MAX_MONTH_PERCENT="100")
    manage("generate_data", "--changes", "40", "--seed", "7")
    manage("run_etl", "--mode", "full", fails=True, ETL_MAX_DELETED_PERCENT="0")  # the brakes stop it
    manage("reconcile", fails=True)  # it finds orders that the run has not published


@contextlib.contextmanager
def run_server(port: int) -> Iterator[str]:
    command = [sys.executable, str(ROOT / "manage.py"), "runserver", "--noreload", f"127.0.0.1:{port}"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        address = f"http://127.0.0.1:{port}"
        try:
            for _ in range(100):
                with contextlib.suppress(OSError):
                    urlopen(f"{address}/admin/login/").close()
                    break
                time.sleep(0.1)
            yield address
        finally:
            process.terminate()


def create_session() -> dict[str, str]:
    """Return the session cookie of a new superuser."""
    from django.conf import settings
    from django.contrib.auth.models import User
    from django.test import Client

    client = Client()
    client.force_login(User.objects.create_superuser("olena", "olena@shop.example", first_name="Олена", last_name="Гнатюк"))
    return {"name": settings.SESSION_COOKIE_NAME, "value": client.cookies[settings.SESSION_COOKIE_NAME].value}


def save_screenshots(browser: Browser, address: str, pages: dict[str, str], cookie: dict[str, str]) -> None:
    for language, theme, viewport in VARIANTS:
        width = "phone" if viewport is PHONE else "desktop"
        for name, path in pages.items():
            context = browser.new_context(base_url=address, locale=LOCALES[language], color_scheme=theme, viewport=viewport)
            if name != "login":
                context.add_cookies([{**cookie, "url": address}])
            page = context.new_page()
            response = page.goto(path, wait_until="load")
            if not response or not response.ok:
                raise SystemExit(f"screenshots: {path} answers {response and response.status}")
            page.wait_for_timeout(400)  # fonts, charts
            is_full_page = not page.locator("#changelist").count()  # of a list only what fits into the window
            page.screenshot(path=IMAGES / f"{name}-{width}-{language}-{theme}.png", full_page=is_full_page)
            context.close()


def main() -> None:
    import django

    with tempfile.TemporaryDirectory(prefix="techmarket-screenshots-") as folder:
        os.environ |= {"VAR_DIR": folder, "ENV_FILE": os.devnull, "DJANGO_SETTINGS_MODULE": "techmarket.settings"}
        set_up_shop()
        django.setup()
        from django.urls import reverse

        from tests.browser import chromium
        from tests.servers import free_port

        pages = {name: reverse(page, args=[row()] if row else []) for name, page, row in PAGES}
        cookie = create_session()
        IMAGES.mkdir(parents=True, exist_ok=True)
        with run_server(free_port()) as address, chromium.launch_browser() as browser:
            save_screenshots(browser, address, pages, cookie)


if __name__ == "__main__":
    main()
