"""Pin container images to digests: `image: redis:7.4-alpine` becomes `image: redis:7.4-alpine@sha256:...` wherever it is named.

    python deploy/pin_images.py [--check | --dry-run] [--mirror URL]

A tag can be moved to other contents, a digest cannot. Exit codes: 0; 2 for usage; 4 where a registry does not answer or a file cannot be
written, and nothing was; 6 where --check found images without a digest, or tags that have moved on.
"""

import argparse
import os
import re
import shutil
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn
from urllib.parse import urlsplit

from registry import SCHEMES, Registry, Unanswered, is_own_machine

ROOT = Path(__file__).resolve().parents[1]
FILES = ("docker-compose*.yml", "deploy/**/Dockerfile", ".devcontainer/Dockerfile", "k8s/**/*.yaml", ".github/workflows/*.yml")
OWN = {"techmarket", "techmarket-airflow"}  # built from these files
DOCKER_HUB = "https://registry-1.docker.io"
DONE, USAGE, CONFIGURATION, DIFFERENT = 0, 2, 4, 6

IN_YAML = re.compile(r"^[ \t]*(?:- )?image:[ \t]*[\"']?([^\s\"'#]+)", re.MULTILINE)
IN_DOCKERFILE = re.compile(r"^FROM[ \t]+(?:--\S+[ \t]+)*(\S+)", re.MULTILINE)
ARGUMENT = re.compile(r"^ARG[ \t]+(\w+)=(\S+)", re.MULTILINE)
VARIABLE = re.compile(r"\$\{?(\w+)}?")
STAGE = re.compile(r"^FROM .+[ \t]AS[ \t]+(\S+)", re.MULTILINE | re.IGNORECASE)
# With a tag, or with a variable of Compose whose default is one: mysql:${MYSQL_VERSION:-8.4}. A tag of .env is not pinned.
IMAGE = re.compile(r"(?P<name>[\w./-]+(?::\d+/[\w./-]+)?):(?:\$\{\w+:-)?(?P<tag>[\w.-]+)(?P<digest>@sha256:[0-9a-f]{64})?}?")


@dataclass(frozen=True)
class Reference:
    """An image that a file names; tag and digest are its characters from `start` to `end`."""

    path: Path
    name: str
    tag: str
    digest: str
    start: int
    end: int

    @property
    def image(self) -> str:
        return f"{self.name}:{self.tag}"


class Parser(argparse.ArgumentParser):
    """Refuses in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(USAGE, f"{self.prog}: {message}. Options: --help\n")


class Unpinnable(Exception):
    """The images cannot be pinned; the message says why, in one line. Nothing was written."""


def main() -> int:
    options = parse_arguments()
    try:
        references = [each for path in list_files() for each in find_references(path)]
        if options.check:
            return check(references, options.mirror)
        return pin(references, options.mirror, options.dry_run)
    except Unpinnable as error:
        print(f"pin_images: {error}", file=sys.stderr)
        return CONFIGURATION


def parse_arguments() -> argparse.Namespace:
    parser = Parser(prog="pin_images", description="Pin container images to the digests that their tags stand for.")
    either = parser.add_mutually_exclusive_group()
    either.add_argument("--check", action="store_true", help="write nothing; name images without a digest, and tags that have moved on")
    either.add_argument("--dry-run", action="store_true", help="write nothing; show what would be written")
    parser.add_argument("--mirror", metavar="URL", default=DOCKER_HUB, help="ask this registry instead of Docker Hub")
    options = parser.parse_args()
    if urlsplit(options.mirror).scheme not in SCHEMES or not urlsplit(options.mirror).hostname:
        parser.error(f"--mirror: {options.mirror!r} is no address, such as https://mirror.example.com")
    return options


# --- Images in files ---


def list_files() -> list[Path]:
    return sorted(path for pattern in FILES for path in ROOT.glob(pattern))


def find_references(path: Path) -> Iterator[Reference]:
    """Yield the images of a file, without those that are built from this repository. Raises Unpinnable for one without a tag."""
    text = read(path)
    for start, written in find_written(path, text):
        found = IMAGE.fullmatch(written)
        if found is None:
            raise Unpinnable(f"{place(path)}: {written} has no tag. Write one, as in redis:7.4-alpine")
        if found["name"] not in OWN:
            end = found.end("digest") if found["digest"] else found.end("tag")
            digest = (found["digest"] or "").removeprefix("@")
            yield Reference(path, found["name"], found["tag"], digest, start + found.start("tag"), start + end)


def find_written(path: Path, text: str) -> Iterator[tuple[int, str]]:
    """Yield position and text of each image: in YAML of every key `image`, in a Dockerfile of FROM and of the ARG that FROM names."""
    if path.name != "Dockerfile":
        yield from ((found.start(1), found[1]) for found in IN_YAML.finditer(text))
        return
    images = [(found.start(1), found[1]) for found in IN_DOCKERFILE.finditer(text)]
    variables = {found[1] for _, image in images if (found := VARIABLE.fullmatch(image))}
    yield from ((found.start(2), found[2]) for found in ARGUMENT.finditer(text) if found[1] in variables)
    others = {"scratch", *STAGE.findall(text)}
    yield from ((start, image) for start, image in images if image not in others and not VARIABLE.fullmatch(image))


def read(path: Path) -> str:
    try:
        return path.read_bytes().decode()
    except (OSError, ValueError) as error:
        raise Unpinnable(f"{place(path)} cannot be read ({getattr(error, 'strerror', None) or 'no UTF-8'})") from None


def place(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


# --- Digests ---


def look_up(references: Iterable[Reference], mirror: str) -> tuple[dict[str, str], dict[str, str]]:
    """Return the digest by image, and by image why there is none."""
    registries: dict[str, Registry] = {}
    digests: dict[str, str] = {}
    causes: dict[str, str] = {}
    for image, name, tag in sorted({(each.image, each.name, each.tag) for each in references}):
        url, repository = locate(name, mirror)
        registry = registries.setdefault(url, Registry(url))
        try:
            digests[image] = registry.read_digest(repository, tag)
        except Unanswered as error:
            causes[image] = str(error)
    return digests, causes


def locate(name: str, mirror: str) -> tuple[str, str]:
    """Return the registry's address and the repository there: `redis` is library/redis of Docker Hub, `quay.io/a/b` is a/b of quay.io."""
    first, _, rest = name.partition("/")
    if rest and first != "docker.io" and ("." in first or ":" in first or first == "localhost"):
        return f"{'http' if is_own_machine(first.partition(':')[0]) else 'https'}://{first}", rest
    repository = name.removeprefix("docker.io/")
    return mirror, repository if "/" in repository else f"library/{repository}"


# --- Pin and check ---


def pin(references: list[Reference], mirror: str, is_dry_run: bool) -> int:
    """Write the digests of all images, or nothing."""
    digests, causes = look_up(references, mirror)
    if causes:
        image, cause = next(iter(causes.items()))
        more = f", nor are {len(causes) - 1} others" if len(causes) > 1 else ""
        raise Unpinnable(f"{image} is not pinned{more}: {cause}. Nothing was written.")
    outdated = [each for each in references if each.digest != digests[each.image]]
    if not is_dry_run:
        write_all({path: rewrite(path, outdated, digests) for path in sorted({each.path for each in outdated})})
    for image, paths in group_by_image(outdated):
        print(f"{image}@{digests[image]}: {paths}")
    images = len({each.image for each in references})
    print(f"{images} images, {len(outdated)} references {'would change' if is_dry_run else 'changed'}")
    return DONE


def check(references: list[Reference], mirror: str) -> int:
    """Name unpinned images, which takes no request, and pinned ones whose tag stands for something else now."""
    unpinned = [each for each in references if not each.digest]
    pinned = [each for each in references if each.digest]
    digests, causes = look_up(pinned, mirror)
    outdated = [each for each in pinned if each.digest != digests.get(each.image, each.digest)]
    for verdict, found in (("not pinned", unpinned), ("outdated", outdated)):
        for image, paths in group_by_image(found):
            print(f"{verdict}: {image} ({paths})")
    for image, cause in causes.items():
        print(f"pin_images: {image} is not compared: {cause}", file=sys.stderr)
    if unpinned or outdated:
        return DIFFERENT
    if causes:
        return CONFIGURATION
    print(f"{len({each.image for each in references})} images are pinned to what their tags stand for")
    return DONE


def group_by_image(references: Iterable[Reference]) -> Iterator[tuple[str, str]]:
    """Yield each image with the files that name it."""
    for image in sorted({each.image for each in references}):
        yield image, ", ".join(sorted({place(each.path) for each in references if each.image == image}))


def rewrite(path: Path, references: Iterable[Reference], digests: dict[str, str]) -> str:
    text = read(path)
    for each in sorted((each for each in references if each.path == path), key=lambda each: -each.start):
        text = f"{text[: each.start]}{each.tag}@{digests[each.image]}{text[each.end :]}"
    return text


def write_all(texts: dict[Path, str]) -> None:
    """Write every file beside the old one first, so that a full disk or a missing right leaves all of them as they were."""
    beside = {path: path.with_name(f".{path.name}.{os.getpid()}") for path in texts}
    replaced: dict[Path, bytes] = {}
    path = ROOT
    try:
        for path, new in beside.items():
            new.write_bytes(texts[path].encode())
            shutil.copymode(path, new)
        for path, new in beside.items():
            before = path.read_bytes()
            new.replace(path)
            replaced[path] = before
    except OSError as error:
        for done, before in replaced.items():
            done.write_bytes(before)
        raise Unpinnable(f"{place(path)} cannot be written ({error.strerror}). Nothing was written.") from None
    finally:
        for new in beside.values():
            new.unlink(missing_ok=True)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
