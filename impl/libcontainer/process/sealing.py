"""A copy of the interpreter that nobody can write to: what a container may reach as /proc/PID/exe is that one.

A process that is on its way into a container still runs the host's interpreter. Whoever is in the container, or the
program itself if it is /proc/self/exe, can get hold of that file and overwrite it. A sealed memory file has no name on
the host, can't be written by anybody, and even the page cache of the host's file is not reached through it.

The copy is made once, by who starts helpers: its memory is no container's. What makes it is with what the command does
first, which can load nothing else (nsinit.scripts.first).

Source: CVE-2019-5736; memfd_create(2), "File sealing"; fcntl(2), F_ADD_SEALS.
"""

from __future__ import annotations

from kernelproof.impl.libcontainer.nsinit.scripts.first import copy_sealed

__all__ = ["copy_sealed"]
