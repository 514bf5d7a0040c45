"""Containers: a root filesystem and a configuration become a process of its own kind; this library does the rest.

    config       what is asked: the OCI configuration and its forerunner of 2014, read, checked, written
    plan         from a configuration and facts of the host to ordered operations; nothing is touched
    operations   what an operation is, and how a failing one is told
    rootfs, security, network, process
                 the operations themselves, by what they change, and how processes are started for them
    state, lifecycle, hooks
                 a container between one command and the next
    nsinit       the command line

This is not an engine: it fetches no images and keeps no network of its own.

A name is looked up when it is first used, so that a program pays for the modules it needs.
"""
