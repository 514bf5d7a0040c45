"""Packages for what container engines ask of Linux; import them as kernelproof.impl.NAME."""
