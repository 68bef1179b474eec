"""A digest of what makes a source row a row of the star: the declarations, the transforms' code, and the shop's time zone.

Rows that were read under another digest are read again: they would be judged by other rules today.
"""

import ast
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from apps.etl.tables import TARGETS

FOLDER = Path(__file__).parent
TEXTS = "rules.py"  # labels and reasons; the rules are where they are applied


@cache
def rules_digest(zone: str) -> str:
    """Return 16 digits that stay the same while no more than comments, formatting or texts change."""
    code = [FOLDER / "money.py", *sorted(path for path in (FOLDER / "transform").glob("*.py") if path.name != TEXTS)]
    parts = [zone, repr(list(TARGETS.values())), *(flatten(ast.parse(path.read_bytes())) for path in code)]
    return sha256("\n".join(parts).encode()).hexdigest()[:16]


def flatten(tree: ast.AST) -> str:
    """Return the tree as one line, another one for every tree: a node has as many fields as its name says. `ast.dump` takes twice as long,
    22 ms instead of 12, which every run would pay."""
    words: list[str] = []
    left: list[Any] = [tree]
    while left:
        node = left.pop()
        if isinstance(node, ast.AST):
            words.append(type(node).__name__)
            left += [getattr(node, name, None) for name in node._fields]
        elif isinstance(node, list):
            words.append(f"[{len(node)}]")
            left += node
        else:
            words.append(repr(node))
    return " ".join(words)
