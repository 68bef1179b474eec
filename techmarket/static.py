"""Static files as WhiteNoise stores them: compressed, the content's hash in the name."""

from typing import Any

from whitenoise.storage import CompressedManifestStaticFilesStorage


class Static(CompressedManifestStaticFilesStorage):
    """Where nobody ran `collectstatic`, or a file is missing there, a page lacks its looks; else it would be an error 500."""

    manifest_strict = False

    def hashed_name(self, name: str, content: Any = None, filename: str | None = None) -> str:
        try:
            return str(super().hashed_name(name, content, filename))
        except ValueError:
            return name
