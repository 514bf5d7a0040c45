"""Names, without any kernel."""

import pytest
from pigeonhole import parse_name


def test_longest_name():
    """A name of 107 bytes fills an address."""
    assert len(parse_name("x" * 107)) == 108


@pytest.mark.parametrize("name", ["", "x" * 108], ids=["empty", "too-long"])
def test_names_that_do_not_fit(name):
    """What no address has room for is refused before the kernel is asked."""
    with pytest.raises(ValueError, match="from 1 to 107"):
        parse_name(name)
