"""The ledger's sentences, which are English for log, command line and all readers alike, in the language of the page.

Whoever makes such a sentence declares its template here, `CAUSE = gettext_noop("{place} does not answer.")`, and fills it with
`str.format`. A sentence is recognised by its template; one that has none stays as it is.
"""

import re
from functools import cache
from string import Formatter

from django import template
from django.utils.translation import get_language, gettext

register = template.Library()
DECLARED: list[str] = []


def gettext_noop(sentence: str) -> str:
    """Declares it; by this name `makemessages` finds it too."""
    DECLARED.append(sentence)
    return sentence


@register.filter
def in_language(said: str) -> str:
    """With what fills it, as far as that is declared too."""
    if not said or str(get_language()).startswith("en"):
        return said
    for sentence, pattern in patterns(len(DECLARED)):
        if found := pattern.fullmatch(said):
            return gettext(sentence).format(**{name: in_language(words) for name, words in found.groupdict().items()})
    return said


@cache
def patterns(count: int) -> list[tuple[str, re.Pattern[str]]]:
    """Of the first `count` declared; those with the most words of their own come first."""
    own = {sentence: "".join(literal for literal, *_ in Formatter().parse(sentence)) for sentence in DECLARED[:count]}
    return [(sentence, re.compile(pattern(sentence), re.DOTALL)) for sentence in sorted(own, key=lambda each: -len(own[each]))]


def pattern(sentence: str) -> str:
    """A hole that touches what stands before it is for a clause, which is declared too, or for nothing."""
    clause = f"(?:{'|'.join(re.escape(each) for each in DECLARED if each.startswith(';'))})?"
    parts: list[str] = []
    for literal, name, *_ in Formatter().parse(sentence):
        touches = literal[-1:].isalnum() or (bool(parts) and not literal)
        parts.append(re.escape(literal))
        if name:
            parts.append(f"(?P<{name}>{clause if touches else '.*?'})")
    return "".join(parts)
