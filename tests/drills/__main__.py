"""`python tests/servers.py -- python -m tests.drills [NAME...] [--times N]`: exit code 1 if a drill fails."""

import argparse
import shutil
import sys
import time
import traceback
from importlib import import_module

from tests.drills.harness import FOLDER, DrillFailed, Skipped, prepare, stop_all

NAMES = ("kill", "twice", "broken", "share", "readers", "clicks", "cancel", "warm", "zombie", "rotate")


def main() -> int:
    parser = argparse.ArgumentParser(prog="drills", description=import_module("tests.drills").__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(NAMES)}; default: all")
    parser.add_argument("--times", type=int, default=0, metavar="N", help="instead of the drill's own number")
    options = parser.parse_args()
    unknown = sorted({*options.names} - {*NAMES})
    if unknown:
        parser.error(f"there is no drill {', '.join(unknown)}")
    prepare()
    failed = [name for name in options.names or NAMES if not run_drill(name, options.times)]
    if not failed:
        shutil.rmtree(FOLDER)
    return 1 if failed else 0


def run_drill(name: str, times: int) -> bool:
    """Run the drill and print its report."""
    began = time.monotonic()
    try:
        for line in import_module(f"tests.drills.{name}").drill(times):
            print(f"{name}: {line}", flush=True)
        verdict = "holds"
    except Skipped as reason:
        verdict = f"SKIPPED: {reason}"
    except Exception as error:
        if not isinstance(error, DrillFailed):
            traceback.print_exc()
        verdict = f"BROKEN: {error}"
    finally:
        stop_all()
    print(f"{name}: {verdict} ({time.monotonic() - began:.0f} s)", flush=True)
    return not verdict.startswith("BROKEN")


sys.exit(main())
