"""`python -m kernelproof.cli`: the command where its script is not on the path."""

import sys

from kernelproof.cli.main import main

sys.exit(main())
