"""The project's package. Whichever program imports it (manage.py, celery, gunicorn), an older Python is refused here."""

from techmarket.installation import refuse_old_python

refuse_old_python()
