"""What a next step looks like, and every text of the code that has one."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tests.conftest import ROOT

VERBS = (
    "Accept|Add|Allow|Ask|Build|Check|Choose|Clear|Compare|Correct|Create|Delete|Disable|Drop|Enable|Free|Give|Grant|Install|Kill|"
    "Leave out|Lower|Make|Mend|Move|Name|Open|Put|Raise|Read|Reduce|Remove|Rename|Repair|Replace|Restart|Restore|Run|Save|Select|Set|"
    "Show|Start|Stop|Take|Try|Unlock|Upgrade|Use|Wait|Write"
)
STEP = re.compile(r"(?:[.;:)] |^)(?!Run [{%])(?:" + VERBS + r")\b|`manage\.py|: let it do so")


def list_texts_with_steps() -> dict[str, str]:
    """Return every text of the code, beside the messages of the ledger, that has a step, with the file that has it."""
    files = [ROOT / "manage.py", *(ROOT / "techmarket").rglob("*.py"), *(ROOT / "apps").rglob("*.py")]
    wanted = [path for path in files if "migrations" not in path.parts and path.name != "messages.py"]
    found = {text: str(path.relative_to(ROOT)) for path in wanted for text in list_texts(path)}
    return {text: file for text, file in found.items() if text.endswith(".") and "\n" not in text and STEP.search(text)}


def list_texts(path: Path) -> Iterator[str]:
    """Return the texts of a file without docstrings and helps; what an f-string puts in is {}."""
    tree = ast.parse(path.read_text())
    left_out = {id(part) for node in ast.walk(tree) for part in list_left_out(node)}
    for node in ast.walk(tree):
        if id(node) in left_out:
            continue
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        elif isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)


def list_left_out(node: ast.AST) -> list[ast.AST]:
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and node.body and isinstance(node.body[0], ast.Expr):
        return [node.body[0].value]
    if isinstance(node, ast.JoinedStr):
        return list(node.values)
    if isinstance(node, ast.keyword) and node.arg == "help":
        return [node.value]
    if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "help":
        return [node.value]
    return []
