"""How processes of a container are started: cloned, told what to do, waited for.

channel      numbered messages and descriptors between the runtime and the process that it makes
walking      a plan is walked by both, each doing its own operations, one waiting for the other
cloning      the process itself, in its new PID namespace and its cgroup
joining      the other namespaces: new ones, those of a path, those of a running process
maps         ID maps of a user namespace, also by newuidmap
program      finding the program and becoming it
rendezvous   a created container waits for its start, also when its creator is gone
waiting      whether it still does
identity     who a process is: pid, start time, pidfd
zygote       a small warm process that makes containers for a program with threads
"""
