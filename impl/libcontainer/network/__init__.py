"""The network of a container: ends made by the runtime, set up inside, and gone with it.

planning     from a configuration to operations
ends         the loopback, a veth pair on a bridge, a joined namespace, a moved device
"""
