"""The only door to libc: prototypes, one error checker, one module a family of calls.

    architecture   numbers of the calls that no libc names yet; an unknown machine is an error
    libc           `Call`: a prototype, the conversion of its arguments, the error it raises
    capabilities   capget, capset, the bounding and the ambient set
    descriptors    close_range
    fanotify       events about mounts
    filesystem     the type of a filesystem
    identity       host and domain name, users, groups, file system ids
    inotify        watches on files and directories
    keyring        session keyrings
    landlock       rulesets
    mount          the mount table and the mount API
    namespaces     unshare, setns, clone3
    ownership      fchownat by descriptor
    prctl          prctl and personality
    resolve        openat2
    scheduling     scheduling, I/O and NUMA policies
    seccomp        filters and their listener
    spawn          posix_spawn with a working directory
    statx          mount IDs of files
    tracing        ptrace: attach and detach

This is the lowest layer. It checks only what would corrupt the message to the kernel (a NUL byte in a string, a
number that its C type cannot hold) and leaves every refusal to the kernel. The packages above check meaning.

Importing a module here loads no libc: the first call of a function does.
"""
