"""The subcommands, one module each: `COMMAND` says what it takes, its `run` calls what does it."""
