"""`python -m kernelproof.impl.graphdb`: see `kernelproof.impl.graphdb.command`."""

import sys

from kernelproof.impl.graphdb.command import main

sys.exit(main())
