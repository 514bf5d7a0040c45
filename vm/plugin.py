"""pytest plugin: runs marked items in machines of their own."""
