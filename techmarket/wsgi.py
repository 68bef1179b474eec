from django.core.wsgi import get_wsgi_application

from techmarket.environment import refuse_at_start

refuse_at_start()
application = get_wsgi_application()
