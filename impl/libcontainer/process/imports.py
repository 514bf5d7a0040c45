"""What a process may load on its way into a container: nothing from a file, once the files are the container's.

The interpreter looks for modules by path, and by then the paths lead into the image: whoever made it would decide what
the runtime runs, with the rights that it has not given up yet. What the process needs was loaded before it was born.
This is for what nobody thought of: a module for a note on an error, the codec of an encoding.

Source: Python documentation, sys.meta_path and sys.path.
"""

from __future__ import annotations

import sys

_BUILT_IN = ("BuiltinImporter", "FrozenImporter")


def refuse_imports() -> None:
    """From here on a module that is not built into the interpreter is an ImportError in this process."""
    sys.meta_path[:] = [finder for finder in sys.meta_path if getattr(finder, "__name__", "") in _BUILT_IN]
    sys.path.clear()
    sys.path_importer_cache.clear()
