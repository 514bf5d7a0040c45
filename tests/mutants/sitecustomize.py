"""Loaded by every Python that a test starts while an edit is tried: such a one must have the broken function, too.

Python looks for this name by itself. Without an edit in the environment it does nothing.
"""

from __future__ import annotations

import os

if "KERNELPROOF_MUTANT" in os.environ:
    import loading

    loading.install(os.environ["KERNELPROOF_MUTANT"])
