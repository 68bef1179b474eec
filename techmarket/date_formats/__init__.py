"""Date formats of the pages, one for each language: FORMAT_MODULE_PATH in settings.py."""
