"""`make sbom`, or `python -m tests.supply.sbom [FILE]`: write what TechMarket runs on as a CycloneDX SBOM, by default to var/sbom.json.

Name, version, package URL, licenses and hashes of every locked package that this platform installs, and which package requires which.
"""

import sys
import tomllib
from pathlib import Path

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.contrib.this.builders import this_component
from cyclonedx.model import ExternalReference, ExternalReferenceType, HashAlgorithm, HashType, XsUri
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import License
from cyclonedx.output import make_outputter
from cyclonedx.schema import OutputFormat, SchemaVersion
from packageurl import PackageURL

from tests.supply.licenses import read_licenses
from tests.supply.lock import Locked, hash_file, read_lock
from tests.supply.outcome import ROOT

REQUIREMENTS = ROOT / "requirements.txt"
USAGE, CONFIGURATION = 2, 4


def main(arguments: list[str]) -> int:
    if len(arguments) > 1 or any(argument.startswith("-") for argument in arguments):
        print("usage: python -m tests.supply.sbom [FILE]", file=sys.stderr)
        return USAGE
    path = Path(arguments[0]).resolve() if arguments else ROOT / "var" / "sbom.json"
    packages = read_lock(REQUIREMENTS)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(render_sbom(packages), encoding="utf-8")
    except OSError as error:
        print(f"sbom: {path} cannot be written ({error.strerror}); name another file: python -m tests.supply.sbom FILE", file=sys.stderr)
        return CONFIGURATION
    print(f"{path}: {len(packages)} packages")
    return 0


def render_sbom(packages: list[Locked]) -> str:
    """Return the SBOM as JSON of CycloneDX 1.6."""
    components = {package.name: build_component(package) for package in packages}
    own = build_own_component()
    bom = Bom(components=components.values())
    bom.metadata.component = own
    bom.metadata.tools.components.add(this_component())
    bom.register_dependency(own, [components[package.name] for package in packages if package.is_direct])
    for component in components.values():
        bom.register_dependency(component, [components[each.name] for each in packages if component.name in each.required_by])
    return make_outputter(bom, OutputFormat.JSON, SchemaVersion.V1_6).output_as_string(indent=2) + "\n"


def build_component(package: Locked) -> Component:
    """Return the package with the hashes of all its files: which one was installed depends on the platform."""
    url = PackageURL("pypi", name=package.name, version=package.version)
    return Component(
        type=ComponentType.LIBRARY,
        name=package.name,
        version=package.version,
        purl=url,
        bom_ref=str(url),
        licenses=build_licenses(*read_licenses(package.name)),
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=each) for each in package.hashes],
    )


def build_own_component() -> Component:
    """Return TechMarket itself, with the hash of the requirements by which deploy/Dockerfile knows an SBOM of other ones."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lock = HashType(alg=HashAlgorithm.SHA_256, content=hash_file(REQUIREMENTS))
    return Component(
        type=ComponentType.APPLICATION,
        name=project["name"],
        version=project["version"],
        bom_ref=project["name"],
        description=project["description"],
        licenses=build_licenses(project["license"]),
        external_references=[ExternalReference(type=ExternalReferenceType.BUILD_META, url=XsUri(REQUIREMENTS.name), hashes=[lock])],
    )


def build_licenses(*names: str) -> list[License]:
    return [LicenseFactory().make_from_string(name) for name in names]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
