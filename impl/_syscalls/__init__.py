"""The only door to libc: prototypes, one error checker, one module a family of calls."""
