"""How a step is tested: a cause is produced, a command fails with the advice, the step is taken, and the same command succeeds."""

import re
import subprocess
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass, field
from string import Formatter

from techmarket.messages import MESSAGES
from tests.failures.conftest import Shop


@dataclass(frozen=True)
class Command:
    """What the reader has run. With `env`, which is wrong in part where the step corrects a variable."""

    args: tuple[str, ...] = ("run_etl", "--quiet")
    env: dict[str, str] = field(default_factory=dict)


# Produces the cause and yields the command that meets it; is sent the advice, takes the step, and yields the command again.
Scene = Generator[Command, str, None]
Cause = Callable[[Shop], Scene]


def matches(code: str, text: str) -> bool:
    """Return True if the text is this message's, or one that ends with it, whatever its parameters."""
    return re.search(pattern(code) + r"\Z", text.strip(), re.DOTALL) is not None


def pattern(code: str) -> str:
    return "".join(re.escape(literal) + ("" if name is None else ".*") for literal, name, _, _ in Formatter().parse(MESSAGES[code]))


def take(shop: Shop, cause: Cause, code: str) -> None:
    """Produce the cause of a message, take its step, and assert that the same command succeeds."""

    def read(failed: "subprocess.CompletedProcess[str]") -> str:
        assert failed.returncode not in (0, 2), failed.stdout
        lines = failed.stderr.strip().splitlines()
        assert lines and matches(code, lines[-1]), failed.stderr
        return lines[-1]

    play(shop, cause(shop), read)


def take_text(shop: Shop, cause: Cause, template: str) -> None:
    """Do the same for a text of a command. What the template puts in is {}, %d, %s or %(name)s."""

    def read(first: "subprocess.CompletedProcess[str]") -> str:
        printed = " ".join((first.stdout + first.stderr).split())
        found = re.search(re.sub(r"\\{\\}|%d|%s|%\\\(\w+\\\)[ds]", ".*", re.escape(template)), printed)
        assert found, printed
        return found[0]

    play(shop, cause(shop), read)


def play(shop: Shop, scene: Scene, read: Callable[["subprocess.CompletedProcess[str]"], str]) -> None:
    try:
        command = next(scene)
        failed = shop.run(*command.args, env=command.env)
        assert "Traceback" not in failed.stderr
        advice = read(failed)
        command = scene.send(advice)
        result = shop.run(*command.args, env=command.env)
        assert result.returncode == 0 and advice not in result.stdout, (advice, result.stderr)
        assert next(scene, None) is None  # which cleans up
    finally:
        scene.close()


def quoted(advice: str) -> list[str]:
    """Return what stands between backticks: statements and commands to be taken as they are."""
    return re.findall(r"`([^`]+)`", advice)


def run_statement(shop: Shop, alias: str, advice: str, number: int = 0) -> None:
    """Run the statement that the advice names, as the database's administrator."""
    with closing(shop.connect(alias)) as connection:
        connection.cursor().execute(quoted(advice)[number].rstrip(";"))
        connection.commit()


def run_named_command(shop: Shop, advice: str) -> None:
    """Run the `manage.py ...` that the advice names."""
    [command] = [each.split()[1:] for each in quoted(advice) if each.startswith("manage.py ")]
    result = shop.run(*command)
    assert result.returncode == 0, result.stderr
