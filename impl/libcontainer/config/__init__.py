"""What is asked of a container: the config.json of the OCI runtime specification (1.3), or its forerunner of 2014.

    record     what a record is: immutable, compared by value, declared once for Python, JSON and the type checker
    records    one class for each object of config.json, and what goes beyond it: networks, Landlock
    resources  the objects below `linux.resources`
    jsontext   JSON text to values and back, without the standard library's slow import
    reading    values to records: every problem with its JSON path
    checking   whether what the records say can hold together
    writing    records to values and to text
    legacy     container.json of 2014, both ways
    templates  what `nsinit spec` writes; the smallest configuration

This is not where anything is done: no module here touches a container, and only `reading` opens a file.
"""
