"""nsinit, the command line of libcontainer: what podman and containerd call as an OCI runtime, and people at a prompt.

    main        the entry: global options, the subcommand, errors and exit status
    commands    the subcommands by name
    options     what a subcommand takes, as a table
    parsing     words to values by that table; nothing is touched before all words were understood
    logs        records as text or JSON
    verbs       one module a subcommand, loaded when it is called
    texts, manual, completion, tables
                help, the manual page, shells, tables; loaded when asked for

This is a surface: what is done is in the modules of libcontainer beside it. A call lives for milliseconds, so nothing
is imported before it is needed, and no general parser of arguments at all.
"""
