"""Django's backends, with a login that is read again where the server refuses the one in use (techmarket/logins.py)."""
