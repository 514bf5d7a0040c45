"""pytest plugin: ties tests to documented statements."""
