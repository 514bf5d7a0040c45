"""Queueing disciplines of links, and classes of htb: the records, and the requests that add, change and remove them.

Modelled are noqueue, pfifo_fast, fq_codel, tbf, htb, ingress and clsact; options of others are kept, and sent, as
raw attributes. Rates are bytes a second, as the kernel has them. This is not for filters and actions.

Source: tc(8), tc-tbf(8), tc-htb(8), tc-fq_codel(8); include/uapi/linux/pkt_sched.h and gen_stats.h.
"""

from collections.abc import Mapping
from struct import Struct
from typing import TYPE_CHECKING, Final, NamedTuple

from kernelproof.impl.netlink.errors import WireError
from kernelproof.impl.netlink.requests import CREATE, EXCL, REPLACE, Request
from kernelproof.impl.netlink.spaces import QDISC
from kernelproof.impl.netlink.values import check_index, check_name
from kernelproof.impl.netlink.wire import (
    U8,
    U32,
    U64,
    Attribute,
    Message,
    encode_text,
    number,
    open_message,
    pack,
    pack_all,
    parse_attributes,
    text,
)

if TYPE_CHECKING:
    from kernelproof.impl.netlink.kinds import Options

NEWQDISC, DELQDISC, GETQDISC, NEWCLASS, DELCLASS, GETCLASS = 36, 37, 38, 40, 41, 42
ROOT, INGRESS = 0xFFFFFFFF, 0xFFFFFFF1  # parents; INGRESS is that of clsact too

_HEADER: Final = Struct("=BxxxiIII")
_RATE: Final = Struct("=BBHhHI")
_TBF: Final = Struct("=12s12sIII")
_HTB: Final = Struct("=IIIII")
_HTB_CLASS: Final = Struct("=12s12sIIIII")
_PRIO: Final = Struct("=i16s")
_BASIC: Final = Struct("=QI")
_QUEUE: Final = Struct("=5I")
_TICK_NANOSECONDS: Final = 64  # of the packet scheduler, since Linux 2.6.31
_FQ_CODEL: Final = (
    *("", "target", "limit", "interval", "ecn", "flows", "quantum", "ce_threshold", "drop_batch_size"),
    *("memory_limit", "ce_threshold_selector", "ce_threshold_mask"),
)
_PLAIN: Final = frozenset({"noqueue", "pfifo_fast", "ingress", "clsact"})
_OPTIONS: Final = {
    "fq_codel": frozenset(_FQ_CODEL[1:]),
    "tbf": frozenset({"rate", "burst", "limit", "peakrate", "mtu"}),
    "htb": frozenset({"default", "rate2quantum", "direct_qlen"}),
    "class of htb": frozenset({"rate", "ceil", "burst", "cburst", "prio", "quantum"}),
}


class QdiscStatistics(NamedTuple):
    """What a queue has done: bytes and packets sent, packets dropped, requeued or over a limit, and those waiting."""

    bytes: int
    packets: int
    drops: int = 0
    requeues: int = 0
    overlimits: int = 0
    queue_packets: int = 0
    queue_bytes: int = 0


class Qdisc(NamedTuple):
    """A queueing discipline, or a class of one.

    Attributes:
        handle, parent: `major << 16 | minor`; parent is ROOT or INGRESS where nothing is above.
        options: by name; those of kinds that are not modelled by number, as bytes.
        references: how many use it (of a class: the handle of the discipline below it).
    """

    ifindex: int
    kind: str
    handle: int = 0
    parent: int = ROOT
    options: "Options" = ()
    references: int = 0
    statistics: QdiscStatistics | None = None
    rest: tuple[tuple[int, bytes], ...] = ()

    @property
    def name(self) -> str:
        """The handle as tc(8) writes it: `1:`, `1:10`."""
        return format_handle(self.handle)


def parse_handle(text: str) -> int:
    """Return the number of a handle: `1:`, `1:10`, `root`, `ingress`, `clsact`; hexadecimal digits.

    Raises:
        ValueError: none of these.

    >>> hex(parse_handle("1:10"))
    '0x10010'
    """
    words = {"root": ROOT, "ingress": INGRESS, "clsact": INGRESS}
    if text in words:
        return words[text]
    major, colon, minor = text.partition(":")
    try:
        first, second = int(major, 16), int(minor or "0", 16)
    except ValueError:
        first = -1
        second = 0
    if not colon or not (0 <= first <= 0xFFFF and 0 <= second <= 0xFFFF):
        raise ValueError(f"{text!r} is no handle: major:minor of four hexadecimal digits, root, ingress or clsact")
    return first << 16 | second


def format_handle(handle: int) -> str:
    """Return a handle as tc(8) writes it.

    >>> format_handle(0x10000), format_handle(0x10010), format_handle(ROOT)
    ('1:', '1:10', 'root')
    """
    if handle in {ROOT, INGRESS}:
        return "root" if handle == ROOT else "ingress"
    return f"{handle >> 16:x}:{handle & 0xFFFF:x}" if handle & 0xFFFF else f"{handle >> 16:x}:"


def parse_qdisc(message: Message) -> Qdisc:
    """Return the discipline or class of an RTM_NEWQDISC, RTM_DELQDISC, RTM_NEWTCLASS or RTM_DELTCLASS.

    Raises:
        WireError: the message is too short, or an attribute lies.
    """
    (_, index, handle, parent, info), found = open_message(message, _HEADER, "qdisc")
    kind = text(found.get(1, b"\0"), "TCA_KIND")
    table = f"class of {kind}" if message.type in {NEWCLASS, DELCLASS} else kind
    return Qdisc(
        index,
        kind,
        handle,
        parent,
        _parse_options(table, found[2]) if 2 in found else (),
        info,
        _parse_statistics(parse_attributes(found[7])) if 7 in found else None,
        tuple((place, data) for place, data in found.items() if place not in {1, 2, 3, 7}),
    )


def _parse_statistics(found: dict[int, bytes]) -> QdiscStatistics:
    sent, packets = _at(_BASIC, found.get(1, bytes(_BASIC.size)), "TCA_STATS_BASIC")
    if 8 in found:
        packets = number(found[8], U64, "TCA_STATS_PKT64")
    waiting, backlog, drops, requeues, over = _at(_QUEUE, found.get(3, bytes(_QUEUE.size)), "TCA_STATS_QUEUE")
    return QdiscStatistics(sent, packets, drops, requeues, over, waiting, backlog)


def _at(form: Struct, data: bytes, what: str) -> tuple[int, ...]:
    if len(data) < form.size:
        raise WireError(f"{what} of {len(data)} bytes")
    return form.unpack_from(data)


def _parse_options(table: str, data: bytes) -> "Options":
    if table == "pfifo_fast":
        bands, priorities = _at(_PRIO, data, "TCA_OPTIONS")
        return ("bands", bands), ("priomap", priorities)
    found = parse_attributes(data)
    if table == "fq_codel":
        return tuple(
            (_FQ_CODEL[place], number(value, U8 if place > 9 else U32, _FQ_CODEL[place]))
            if 0 < place < len(_FQ_CODEL)
            else (place, value)
            for place, value in found.items()
        )
    if table == "tbf" and 1 in found:
        return _parse_tbf(found)
    if table == "htb" and 2 in found:
        _, quantum, default, _, direct = _at(_HTB, found[2], "TCA_HTB_INIT")
        length = number(found[5], U32, "TCA_HTB_DIRECT_QLEN") if 5 in found else 0
        options = ("default", default), ("rate2quantum", quantum), ("direct_packets", direct)
        return (*options, ("direct_qlen", length), *_others(found, {2, 5}))
    if table == "class of htb" and 1 in found:
        return _parse_htb_class(found)
    return tuple(found.items())


def _others(found: dict[int, bytes], known: set[int]) -> "Options":
    return tuple((place, value) for place, value in found.items() if place not in known)


def _rate(data: bytes, large: bytes | None) -> int:
    # The structure has 32 bits for a rate; above that all are set, and an attribute of 64 bits has it.
    return int(_RATE.unpack(data)[5]) if large is None else number(large, U64, "rate")


def _parse_tbf(found: dict[int, bytes]) -> "Options":
    rate, peak, limit, buffer, peak_buffer = _at(_TBF, found[1], "TCA_TBF_PARMS")
    speed, peak_speed = _rate(rate, found.get(4)), _rate(peak, found.get(5))  # type: ignore[arg-type]
    options: Options = (("rate", speed), ("burst", _bytes_in(buffer, speed)), ("limit", limit))
    if peak_speed:
        options = (*options, ("peakrate", peak_speed), ("mtu", _bytes_in(peak_buffer, peak_speed)))
    return (*options, *_others(found, {1, 4, 5, 6, 7}))


def _parse_htb_class(found: dict[int, bytes]) -> "Options":
    rate, ceil, buffer, ceil_buffer, quantum, level, prio = _at(_HTB_CLASS, found[1], "TCA_HTB_PARMS")
    speed, ceiling = _rate(rate, found.get(6)), _rate(ceil, found.get(7))  # type: ignore[arg-type]
    bursts = ("burst", _bytes_in(buffer, speed)), ("cburst", _bytes_in(ceil_buffer, ceiling))
    others = ("prio", prio), ("quantum", quantum), ("level", level)
    return (("rate", speed), ("ceil", ceiling), *bursts, *others, *_others(found, {1, 6, 7}))


def _bytes_in(ticks: int, rate: int) -> int:
    # Time is rounded to ticks both ways: to the nearest, so that what was asked for comes back.
    return (ticks * _TICK_NANOSECONDS * rate + 500_000_000) // 1_000_000_000


def _ticks_of(size: int, rate: int) -> int:
    return -(-size * 1_000_000_000 // (rate * _TICK_NANOSECONDS)) if rate else 0


def _encode_rate(rate: int, what: str) -> bytes:
    if not 0 <= rate < 2**64:
        raise ValueError(f"{what} {rate}: bytes a second, 0 to 18446744073709551615")
    return _RATE.pack(0, 1, 0, -1, 0, min(rate, 0xFFFFFFFF))  # 1: the frames of Ethernet, without a table of times


def _encode_options(table: str, options: Mapping[str, int]) -> list[Attribute] | None:
    allowed = _OPTIONS.get(table, frozenset())
    unknown = [name for name in options if name not in allowed]
    if unknown:
        raise ValueError(f"{table} has no option {unknown[0]!r}; it has: {', '.join(sorted(allowed)) or 'none'}")
    if table == "fq_codel":
        places = {name: place for place, name in enumerate(_FQ_CODEL)}
        return [(places[name], pack(U8 if places[name] > 9 else U32, value, name)) for name, value in options.items()]
    if table == "tbf":
        return _encode_tbf(options)
    if table == "htb":
        default, quantum = options.get("default", 0), options.get("rate2quantum", 10)
        data = U32.pack(3) + pack(U32, quantum, "rate2quantum") + pack(U32, default, "default") + bytes(8)
        attributes: list[Attribute] = [(2, data)]
        if "direct_qlen" in options:
            attributes.append((5, pack(U32, options["direct_qlen"], "direct_qlen")))
        return attributes
    return _encode_htb_class(options) if table == "class of htb" else None


def _encode_tbf(options: Mapping[str, int]) -> list[Attribute]:
    missing = [name for name in ("rate", "burst", "limit") if not options.get(name)]
    if missing:
        raise ValueError(f"tbf needs {', '.join(missing)}")
    rate, burst, peak, mtu = options["rate"], options["burst"], options.get("peakrate", 0), options.get("mtu", 0)
    if bool(peak) != bool(mtu):
        raise ValueError("tbf takes peakrate and mtu together")
    rates = _encode_rate(rate, "rate"), _encode_rate(peak, "peakrate")
    times = _fitting(_ticks_of(burst, rate), "burst"), _fitting(_ticks_of(mtu, peak), "mtu")
    pack(U32, options["limit"], "limit")
    attributes: list[Attribute] = [
        (1, pack_all(_TBF, "tbf", *rates, options["limit"], *times)),
        (6, pack(U32, burst, "burst")),
    ]
    if rate > 0xFFFFFFFF:
        attributes.append((4, U64.pack(rate)))
    if peak:
        attributes.append((7, pack(U32, mtu, "mtu")))
    if peak > 0xFFFFFFFF:
        attributes.append((5, U64.pack(peak)))
    return attributes


def _fitting(ticks: int, what: str) -> int:
    if ticks > 0xFFFFFFFF:
        raise ValueError(f"{what} takes longer to send than the kernel counts: 274 seconds")
    return ticks


def _encode_htb_class(options: Mapping[str, int]) -> list[Attribute]:
    if not options.get("rate"):
        raise ValueError("a class of htb needs rate")
    rate = options["rate"]
    ceil = options.get("ceil", rate)
    # tc(8): at least what is sent in one tick of a 100 Hz timer, and a frame.
    burst, cburst = (options.get(name, speed // 100 + 1600) for name, speed in (("burst", rate), ("cburst", ceil)))
    data = pack_all(
        _HTB_CLASS,
        "class of htb",
        _encode_rate(rate, "rate"),
        _encode_rate(ceil, "ceil"),
        _fitting(_ticks_of(burst, rate), "burst"),
        _fitting(_ticks_of(cburst, ceil), "cburst"),
        options.get("quantum", 0),
        0,
        options.get("prio", 0),
    )
    large = [(place, U64.pack(speed)) for place, speed in ((6, rate), (7, ceil)) if speed > 0xFFFFFFFF]
    return [(1, data), *large]


def add_qdisc(
    index: int,
    kind: str,
    *,
    handle: int = 0,
    parent: int | None = None,
    options: Mapping[str, int] | None = None,
    raw: Mapping[int, bytes] | None = None,
    replace: bool = False,
) -> Request:
    """Add a queueing discipline to a link: RTM_NEWQDISC, EEXIST if the parent has one that somebody added.

    Args:
        index: of the link.
        kind: noqueue, pfifo_fast, fq_codel, tbf, htb, ingress, clsact …
        handle: `major << 16`; 0 lets the kernel choose; that of ingress and clsact is ffff:0.
        parent: ROOT unless told, INGRESS for ingress and clsact.
        options: `rate`, `burst`, `limit` (tbf); `default` (htb); `target`, `limit`, `interval`, `ecn` (fq_codel) …
        raw: further attributes of TCA_OPTIONS.
        replace: in the place of the one there.

    Raises:
        ValueError: an option that the kind does not have, or a number that does not fit; index 0.
    """
    below = kind in {"ingress", "clsact"}
    parent = (INGRESS if below else ROOT) if parent is None else parent
    handle = 0xFFFF0000 if below and not handle else handle
    how = CREATE | (REPLACE if replace else EXCL)
    return _request(NEWQDISC, how, index, kind, handle, parent, kind, options, raw, "add qdisc")


def add_class(index: int, handle: int, *, parent: int, options: Mapping[str, int], replace: bool = False) -> Request:
    """Add a class to an htb: RTM_NEWTCLASS.

    Args:
        index: of the link.
        handle: `major << 16 | minor`, major that of the htb.
        parent: the htb's handle, or another class of it.
        options: rate, ceil (bytes a second), burst, cburst (bytes), prio, quantum.
        replace: change the class if it is there.

    Raises:
        ValueError: as for add_qdisc.
    """
    how = CREATE | (REPLACE if replace else EXCL)
    return _request(NEWCLASS, how, index, "htb", handle, parent, "class of htb", options, None, "add class")


def _request(
    message: int,
    how: int,
    index: int,
    kind: str,
    handle: int,
    parent: int,
    table: str,
    options: Mapping[str, int] | None,
    raw: Mapping[int, bytes] | None,
    verb: str,
) -> Request:
    attributes: list[Attribute] = [(1, encode_text(check_name(kind, what="kind")))]
    data = _encode_options(table, options or {})
    if raw or (data is not None and (data or options is not None)):
        attributes.append((2, [*(data or []), *(raw or {}).items()]))
    elif table == "htb":  # it does not work without
        attributes.append((2, data or []))
    header = pack_all(_HEADER, "qdisc", 0, check_index(index), handle, parent, 0)
    return Request.of(message, how, header, attributes, QDISC, f"{verb} {kind} {format_handle(handle)} of link {index}")


def delete_qdisc(index: int, *, parent: int = ROOT, handle: int = 0) -> Request:
    """Remove the queueing discipline below a parent: RTM_DELQDISC, ENOENT if there is none that somebody added."""
    header = pack_all(_HEADER, "qdisc", 0, check_index(index), handle, parent, 0)
    return Request.of(DELQDISC, 0, header, (), QDISC, f"delete qdisc {format_handle(parent)} of link {index}")


def delete_class(index: int, handle: int) -> Request:
    """Remove a class: RTM_DELTCLASS, ENOENT if there is none, EBUSY if something is below it."""
    header = pack_all(_HEADER, "qdisc", 0, check_index(index), handle, 0, 0)
    return Request.of(DELCLASS, 0, header, (), QDISC, f"delete class {format_handle(handle)} of link {index}")


def list_qdiscs(*, invisible: bool = False) -> Request:
    """Ask for the disciplines of all links; the kernel filters by nothing here.

    Args:
        invisible: also those that nobody added and the kernel keeps to itself.
    """
    attributes: list[Attribute] = [(10, b"")] if invisible else []
    return Request.of(GETQDISC, 0, _HEADER.pack(0, 0, 0, 0, 0), attributes, QDISC, "list qdiscs")


def list_classes(index: int) -> Request:
    """Ask for the classes of a link."""
    return Request.of(
        GETCLASS, 0, pack_all(_HEADER, "qdisc", 0, check_index(index), 0, 0, 0), (), QDISC, "list classes"
    )
