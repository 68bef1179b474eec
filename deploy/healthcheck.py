"""Does the process of this container live? Exit code 0 or 1, and a line that says why not.

web answers /healthz. worker and beat sign a file every few seconds; a worker whose broker is away cannot, and restarting it would not help.
Without Django: this runs every fifteen seconds in every container.
"""

import os
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

FRESH = 60.0  # seconds
PATIENCE = 3.0


def main(folder: Path) -> str:
    """Nothing, or what is wrong."""
    try:
        role = (folder / "role").read_text().strip()
    except OSError:
        return ""  # a one-off command: it lives as long as its container
    if role == "web":
        return web()
    age = silence(folder / "alive" / role)
    if age < FRESH or (role == "worker" and not broker_answers()):
        return ""
    return f"{role} has given no sign for {age:.0f} s"


def web() -> str:
    url = f"http://127.0.0.1:{os.environ.get('PORT', '8000')}/healthz"
    try:
        with urllib.request.urlopen(url, timeout=PATIENCE):
            return ""
    except (urllib.error.URLError, OSError) as error:
        return f"{url}: {error}"


def silence(file: Path) -> float:
    try:
        return time.time() - file.stat().st_mtime
    except OSError:
        return float("inf")


def broker_answers() -> bool:
    import redis

    path = os.environ.get("CELERY_BROKER_URL_FILE")
    url = Path(path).read_text().strip() if path else os.environ.get("CELERY_BROKER_URL", "")
    try:
        with redis.Redis.from_url(url, socket_timeout=PATIENCE, socket_connect_timeout=PATIENCE) as client:
            return bool(client.ping())
    except redis.RedisError:
        return False


if __name__ == "__main__":
    trouble = main(Path(os.environ.get("VAR_DIR", "/var/lib/techmarket")))
    print(trouble or "alive")
    sys.exit(1 if trouble else 0)
