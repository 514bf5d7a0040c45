"""`python -m kernelproof.impl.graphdb`: see `kernelproof.impl.graphdb.command`."""

import sys

from kernelproof.impl.graphdb.command import main

if __name__ == "__main__":
    sys.exit(main())
