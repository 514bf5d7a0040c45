"""The container's root filesystem: opened once, filled by descriptors, entered.

    planning    from a configuration to the operations, in order; pure
    words       options of mounts as the specification has them
    opening     the root by its descriptor, propagation before anything is mounted, a procfs that is one
    places      where something is mounted or made: inside the root, and never over procfs
    mounting    new filesystems; binding: what is there a second time, and remounts; mapped: with other owners
    sources     what only the host can reach, copied there; keeping: many descriptors from one side to the other
    cgroups     the tree of hierarchies of version 1, and version 2
    devices     nodes and links below /dev; console: the terminal, by its descriptors
    hiding      masked and read-only paths, read-only mounts, a read-only root
    entering    pivot_root and its substitutes; propagation afterwards; sysctls

All of it acts on `site.descriptors["root"]`. Paths of the container are resolved below that, and every mount is
attached to a descriptor, so that nobody who can rename inside the container leads anything outside. What needs a procfs
is done before the root is entered, where /proc is still the host's.

This is not for images: what the root holds is there already.
"""
