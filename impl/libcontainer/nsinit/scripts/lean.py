"""Bytecode without the texts for people in it, which a call of nsinit need not carry: a tenth of what it loads.

Python leaves them out under -OO; but that leaves assertions out too, and lines of tracebacks are kept here as well.
Loaded only by a call that writes its modules down for the next (see packed.py).

Source: dis; inspect, "Code Objects Bit Flags"; PEP 257.
"""

import marshal
import opcode
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import CodeType

_OPTIMIZED = 1  # CO_OPTIMIZED: of a function, not of a module or class
_HAS_DOCSTRING = 0x4000000  # CO_HAS_DOCSTRING, since Python 3.14; before, the first constant is one if it is a text
_STORE_NAME, _LOAD_CONST = opcode.opmap["STORE_NAME"], opcode.opmap["LOAD_CONST"]
_WORD = 2  # bytes of an instruction and its argument


def strip_docstrings(data: bytes) -> bytes:
    """A module's code, as marshal has it, with None in place of all docstrings.

    >>> done = strip_docstrings(marshal.dumps(compile("def f():\\n    'what'\\n    return 'what else'", "", "exec")))
    >>> values = {}
    >>> exec(marshal.loads(done), values)
    >>> values["f"].__doc__, values["f"]()
    (None, 'what else')
    """
    return marshal.dumps(_strip(marshal.loads(data)))


def _strip(code: "CodeType") -> "CodeType":
    constants = [_strip(one) if isinstance(one, type(code)) else one for one in code.co_consts]
    position = _find(code)
    if position >= 0 and isinstance(constants[position], str):
        constants[position] = None
    return code.replace(co_consts=tuple(constants))


def _find(code: "CodeType") -> int:
    # The number of the constant that is the docstring, and nothing else; -1 if there is none.
    words = code.co_code
    used = [words[at + 1] for at in range(0, len(words), _WORD) if words[at] in opcode.hasconst]
    if code.co_flags & _OPTIMIZED:
        has = sys.version_info < (3, 14) or code.co_flags & _HAS_DOCSTRING
        return 0 if has and code.co_consts and 0 not in used else -1
    for at in range(_WORD, len(words), _WORD):
        is_stored = words[at] == _STORE_NAME and code.co_names[words[at + 1]] == "__doc__"
        if is_stored and words[at - _WORD] == _LOAD_CONST and used.count(words[at - 1]) == 1:
            return words[at - 1]
    return -1
