"""`python tests/servers.py -- python -m tests.drills [NAME...] [--times N]`: exit code 1 where a promise is broken."""

import argparse
import shutil
import sys
import time
import traceback
from importlib import import_module

from tests.drills.ground import FOLDER, Broken, Skipped, prepare, stop_all

NAMES = ("kill", "twice", "broken", "share", "readers", "clicks", "cancel", "warm", "zombie")


def main() -> int:
    parser = argparse.ArgumentParser(prog="drills", description=import_module("tests.drills").__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}; all of them without one")
    parser.add_argument("--times", type=int, default=0, metavar="N", help="instead of the number that the drill promises")
    options = parser.parse_args()
    unknown = sorted({*options.names} - {*NAMES})
    if unknown:
        parser.error(f"there is no drill {', '.join(unknown)}")
    prepare()
    broken = [name for name in options.names or NAMES if not holds(name, options.times)]
    if not broken:
        shutil.rmtree(FOLDER)
    return 1 if broken else 0


def holds(name: str, times: int) -> bool:
    """Run the drill and print its report."""
    began = time.monotonic()
    try:
        for line in import_module(f"tests.drills.{name}").drill(times):
            print(f"{name}: {line}", flush=True)
        verdict = "holds"
    except Skipped as reason:
        verdict = f"SKIPPED: {reason}"
    except Exception as error:
        if not isinstance(error, Broken):
            traceback.print_exc()
        verdict = f"BROKEN: {error}"
    finally:
        stop_all()
    print(f"{name}: {verdict} ({time.monotonic() - began:.0f} s)", flush=True)
    return not verdict.startswith("BROKEN")


sys.exit(main())
