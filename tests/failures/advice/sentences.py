"""What a next step looks like, and every sentence of the code that has one."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tests.conftest import ROOT

VERBS = (
    "Accept|Add|Allow|Ask|Check|Choose|Clear|Compare|Correct|Create|Delete|Disable|Drop|Enable|Free|Give|Grant|Install|Kill|Lower|Make|Mend|"
    "Move|Name|Open|Put|Raise|Read|Reduce|Remove|Rename|Repair|Replace|Restart|Restore|Run|Save|Select|Set|Show|Start|Stop|Take|Try|Unlock|"
    "Upgrade|Use|Wait|Write"
)
STEP = re.compile(r"(?:[.;:)] |^)(?!Run [{%])(?:" + VERBS + r")\b|`manage\.py|: let it do so")


def list_sentences() -> dict[str, str]:
    """Return every text of the code, beside the messages of the ledger, that has a step, with the file that has it."""
    files = [ROOT / "manage.py", *(ROOT / "techmarket").rglob("*.py"), *(ROOT / "apps").rglob("*.py")]
    wanted = [path for path in files if "migrations" not in path.parts and path.name != "messages.py"]
    return {text: str(path.relative_to(ROOT)) for path in wanted for text in list_texts(path) if STEP.search(text) and " " in text}


def list_texts(path: Path) -> Iterator[str]:
    """Return the texts of a file without docstrings; what an f-string or a concatenation puts in is {}."""
    tree = ast.parse(path.read_text())
    owners = (ast.Module, ast.ClassDef, ast.FunctionDef)
    docstrings = {
        id(node.body[0].value) for node in ast.walk(tree) if isinstance(node, owners) and node.body and isinstance(node.body[0], ast.Expr)
    }
    parts = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        if id(node) in docstrings | parts:
            continue
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        elif isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)
