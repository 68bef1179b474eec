"""gunicorn's settings in the image."""

import os

from django.conf import settings

from techmarket.environment import Environment, exit_on_invalid_settings, load_settings_or_exit

load_settings_or_exit()

with exit_on_invalid_settings():
    bind = f"0.0.0.0:{Environment(os.environ).number('PORT', 8000, 1, 65_535)}"
workers = settings.WEB_PROCESSES
worker_class = "techmarket.web_worker.ReceivingWorker"  # threads, each of which gets a request once it has arrived
threads = 4
preload_app = True  # processes share the memory of the imported code
control_socket_disable = True  # it would be a file in the home folder, which the user does not have
worker_tmp_dir = "/dev/shm"  # nosec B108 # noqa: S108  for gunicorn's heartbeat, which would block on a busy disk
timeout = 60
graceful_timeout = 30
keepalive = 75  # longer than the 60 s of proxies, which must never send into a connection that is being closed here
max_requests = 2_000
max_requests_jitter = 200
logconfig_dict = settings.LOGGING  # no access log: Django logs errors, and the proxy logs requests
