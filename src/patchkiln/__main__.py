"""``python -m patchkiln`` is the command line."""

import sys

from patchkiln.cli import main

if __name__ == "__main__":
    sys.exit(main())
