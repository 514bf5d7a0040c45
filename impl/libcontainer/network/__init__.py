"""The network of a container: ends made by the runtime, set up inside, and gone with it.

    planning     from a configuration to operations; strategies checks and makes those that speak netlink
    loopback     lo of a new network namespace
    ends         a veth pair on a bridge, a device that moves in, routes, a joined namespace
    addressing   arithmetic of addresses

A name is looked up in its module, so that a start without a network of ours does not load what speaks netlink.
"""
