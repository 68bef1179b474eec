"""gunicorn in the image. WEB_CONCURRENCY, gunicorn's own variable, is the number of its processes."""

import os

from django.conf import settings

from techmarket.environment import load_settings_or_exit

load_settings_or_exit()

bind = f"0.0.0.0:{os.environ.get('PORT', '8000')}"
workers = int(os.environ.get("WEB_CONCURRENCY", "2"))
worker_class = "gthread"
threads = 4
preload_app = True  # one copy of the imported code in memory
control_socket_disable = True  # it would be a file in the home folder, and the user has none
worker_tmp_dir = "/dev/shm"  # noqa: S108  gunicorn's own heartbeat: on a busy disk it would block
timeout = 60
graceful_timeout = 30
keepalive = 75  # longer than the proxy's 60 s: it must never send into a connection that we are closing
max_requests = 2_000
max_requests_jitter = 200
logconfig_dict = settings.LOGGING  # no access log: what goes wrong, Django logs; the rest is the proxy's
