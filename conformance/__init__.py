"""Documented statements about Linux, each with a test; import it as kernelproof.conformance."""
