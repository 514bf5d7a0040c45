"""Controllers, one module each: how a limit is written and usage is read, version 1 and version 2 side by side.

Every module has `plan_v1` and `plan_v2` (limits and what is set now -> writes) and `read_v1` and `read_v2` (interface
files -> what was measured), as far as the controller is there in that version. All are pure: files are read through
the function that is passed in, which returns None for one that is not there.
"""
