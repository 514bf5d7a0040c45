"""python -m kernelproof.impl.libcontainer: the command line nsinit."""

import sys

from kernelproof.impl.libcontainer.nsinit.main import main

if __name__ == "__main__":
    sys.exit(main())
