"""A fresh virtual machine for every test; import it as kernelproof.vm."""
