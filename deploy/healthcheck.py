"""Check that the process of this container is alive: exit code 0 or 1, and a line with the reason.

web answers /healthz. worker and beat touch a file every few seconds; a worker cannot while its broker is unreachable, and a restart would
not help. Runs without Django, because every container runs it every 15 seconds.
"""

import os
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

MAX_SILENCE_S = 60.0
REQUEST_TIMEOUT_S = 3.0


def find_problem(folder: Path) -> str:
    """Return what is wrong, or ""."""
    try:
        role = (folder / "role").read_text().strip()
    except OSError:
        return ""  # a one-off command: its container ends with it
    if role == "web":
        return check_web()
    age = measure_age(folder / "alive" / role)
    # A file of the future was touched before the clock was set back; a process that lives has touched it again since.
    if abs(age) < MAX_SILENCE_S or (role == "worker" and not broker_answers()):
        return ""
    if age == float("inf"):
        return f"{role} has sent no sign of life yet"
    if age < 0:
        return f"{role} has sent no sign of life since the clock was set back by more than {-age:.0f} s"
    return f"{role} has sent no sign of life for {age:.0f} s"


def check_web() -> str:
    url = f"http://127.0.0.1:{os.environ.get('PORT', '8000')}/healthz"
    try:
        # Without the proxy of HTTP_PROXY, which has another 127.0.0.1.
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=REQUEST_TIMEOUT_S):
            return ""
    except (urllib.error.URLError, OSError) as error:
        return f"{url}: {error}"


def measure_age(file: Path) -> float:
    """Return the seconds since the file was touched; infinity where it is missing."""
    try:
        return time.time() - file.stat().st_mtime
    except OSError:
        return float("inf")


def broker_answers() -> bool:
    # Imported only here, when a worker is silent: it takes half a second.
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    import redis

    from techmarket.environment import Environment

    url = Environment(os.environ).broker("CELERY_BROKER_URL", "filesystem://")
    if url.startswith("filesystem"):
        return True
    try:
        with redis.Redis.from_url(url, socket_timeout=REQUEST_TIMEOUT_S, socket_connect_timeout=REQUEST_TIMEOUT_S) as client:
            return bool(client.ping())
    except (redis.RedisError, OSError, ValueError):
        return False


if __name__ == "__main__":
    problem = find_problem(Path(os.environ.get("VAR_DIR", "/var/lib/techmarket")))
    print(problem or "alive")
    sys.exit(1 if problem else 0)
