"""python -m kernelproof.impl.libcontainer: the command line nsinit."""

from kernelproof.impl.libcontainer.nsinit.main import leave, main

if __name__ == "__main__":
    leave(main())
