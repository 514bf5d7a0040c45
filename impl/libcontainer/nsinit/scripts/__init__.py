"""The installed command, and what it loads before its package."""
