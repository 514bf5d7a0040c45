"""Which devices the processes of a cgroup may open and make: rules, and how either version keeps them.

`rules` is what is meant, `lists` how version 1 says it, `program` how version 2 does, `attaching` puts it there.
"""
