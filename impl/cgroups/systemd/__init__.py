"""Cgroups that systemd keeps: slices and scopes that are asked for over D-Bus, and their limits as its properties.

    names       slices as paths, and text in the names of units
    properties  limits as properties, and what becomes of them by rounding
    bus         one connection, with deadlines
    manager     Manager: scopes and slices started, changed, stopped; each call ends when its job has

What systemd keeps is written by systemd alone: a file of its cgroups that somebody else writes is overwritten at the
next reload. The bus is spoken by jeepney, which the extra `systemd` of this distribution brings.
"""
