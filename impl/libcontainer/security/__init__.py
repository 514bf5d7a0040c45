"""What a container's process may do: rights, filters, limits, labels, and who it is.

    planning       from a configuration to the operations of the last stage, in the order that their rights allow
    capabilities   the five sets, no_new_privs
    seccomp        from rules to a program: actions are its results, architectures the calls by name, assembly its
                   making, bpf the program itself and an interpreter of it
    filtering      the program loaded, its listener handed over
    landlock       a policy, what of it this kernel can do, and putting it in force
    identity, limits, scheduling (planned by schedules), keyring, labels, descriptors
                   the rest, by what they change
    procfs         writing to one's own files below a verified procfs
    explain        which layer would refuse a path, a system call or a port, without running anything

A name is looked up in its module, so that a start loads what its configuration needs.
"""
