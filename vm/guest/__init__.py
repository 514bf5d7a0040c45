"""Runs inside the machine: standard library and pytest only."""
