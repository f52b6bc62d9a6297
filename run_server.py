"""Serve on http://localhost:8000, or where PATCHKILN_HOST and PATCHKILN_PORT say."""

import sys

from patchkiln.cli import main

if __name__ == "__main__":
    sys.exit(main(["serve"]))
