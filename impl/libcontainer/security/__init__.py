"""What a container's process may do: rights, filters, limits, labels, and who it is.

    planning       from a configuration to the operations of the last stage
    capabilities   the five sets
    seccomp        from rules to a program; architectures: system calls by name; bpf: the program itself
    filtering      the program loaded, its listener handed over
    landlock       a policy, what of it this kernel can do, and putting it in force
    limits, scheduling, personality, identity, keyring, labels, descriptors
                   the rest, by what they change
    explain        which layer would refuse a path, a system call or a port, without running anything

A name is looked up in its module, so that a start loads what its configuration needs.
"""
