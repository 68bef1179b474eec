"""Texts from outside as one line of a log or a terminal shows them: no line end, no escape of a terminal, no mark that turns letters."""


def escape_unprintable(text: str) -> str:
    r"""Return the text with all that is not printable spelled as Python does: \n, \x1b, \u2028; lone surrogates, too."""
    return text if text.isprintable() else "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)
