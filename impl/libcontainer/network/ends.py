"""Ends of networks: a veth pair on a bridge, a device that moves in, routes, a namespace that is joined.

All of it is done from outside, by netlink, once the container's process has its network namespace. What is made is
noted for the container's state, so that deleting it takes back all of it in reverse, and a start that fails does too.

Source: veth(4); rtnetlink(7); OCI runtime specification 1.3, config-linux.md, "Network Devices".
"""

from __future__ import annotations

import errno
import os

from kernelproof.impl._syscalls.namespaces import CloneFlag, setns
from kernelproof.impl.libcontainer.network.addressing import addresses_after, prefix_of
from kernelproof.impl.libcontainer.operations import Operation, Site
from kernelproof.impl.netlink.errors import AlreadyThereError, NetlinkError
from kernelproof.impl.netlink.netns import Pid
from kernelproof.impl.netlink.routes import Route as Hop
from kernelproof.impl.netlink.rtnl import Rtnl

TYPE_CHECKING = False  # typing would cost 6 ms at every start
if TYPE_CHECKING:
    from kernelproof.impl.libcontainer.config.own import Route
    from kernelproof.impl.netlink.links import Link

LINK, BRIDGE = "link", "bridge"  # what is noted for the end
_MARK = "made by kernelproof"  # the alias of a bridge that goes with its last port
_PERMANENT = 0x80
_NAMESPACE = "joined network"


def _pid(site: Site) -> Pid:
    pid = site.found["pid"]
    assert isinstance(pid, int)
    return Pid(pid)


def _note(site: Site, kind: str, value: str) -> None:
    noted = site.found.setdefault("undo", [])
    assert isinstance(noted, list)
    noted.append((kind, value))


def remove_link(name: object) -> None:
    """Removes a link; one that is gone already is no error.

    Raises:
        NetlinkError: EPERM.
    """
    with Rtnl() as net:
        if (link := net.find_link(str(name))) is not None:
            _delete(net, link)


def remove_bridge(name: object) -> None:
    """Removes a bridge that this module made, if no port is left.

    Raises:
        NetlinkError: EPERM.
    """
    with Rtnl() as net:
        bridge = net.find_link(str(name))
        if bridge is not None and bridge.alias == _MARK and not net.links(master=bridge):
            _delete(net, bridge)


def _delete(net: Rtnl, link: Link) -> None:
    try:
        net.link_delete(link)
    except NetlinkError as error:
        if error.errno != errno.ENODEV:
            raise


class MakeEnd(Operation):
    """Gives the container an interface: one end of a veth pair whose other end is a port of a bridge.

    Attributes:
        addresses: of the interface inside, as `address/length`.
        bridge: name of the bridge.
        gateways: of the default routes; a bridge that is made here gets them as its own addresses.
        mac: of the interface inside; empty: the kernel chooses.
        makes: whether the bridge is made where it is not there.
        mtu: of both ends, 0: the kernel's.
        name: of the interface inside.
        prefix: what the other end's name begins with.
        subnet: where the first free address is taken from, where none is given: `gateway/length`.
        tx_queue: its length, 0: the kernel's.
    """

    __slots__ = ("addresses", "bridge", "gateways", "mac", "makes", "mtu", "name", "prefix", "subnet", "tx_queue")
    stage = "host"
    late = True
    addresses: tuple[str, ...]
    bridge: str
    gateways: tuple[str, ...]
    mac: str
    makes: bool
    mtu: int
    name: str
    prefix: str
    subnet: str
    tx_queue: int

    def describe(self) -> str:
        """What will happen."""
        addresses = " ".join(self.addresses) or f"a free address of {self.subnet}"
        gateways = f", by way of {' '.join(self.gateways)}" if self.gateways else ""
        return f"make {self.name} with {addresses}{gateways}, the other end on the bridge {self.bridge}"

    def do(self, site: Site) -> None:
        """Does it.

        Raises:
            NetlinkError: EPERM; EEXIST: the container has such an interface already; EINVAL: an MTU.
            LookupError: there is no such bridge, or no free address.
        """
        try:
            self._do(site, _pid(site))
        except BaseException:
            self.undo(site)
            raise

    def _do(self, site: Site, pid: Pid) -> None:
        addresses, gateways = self.addresses, self.gateways
        with Rtnl() as net:
            bridge = self._find_bridge(net, site)
            if self.subnet:
                gateways = (self.subnet.partition("/")[0],)
                outside, address = self._take_address(net, pid)
                addresses = (address,)
            else:
                outside = f"{self.prefix}{os.urandom(4).hex()}"
                self._make(net, outside, pid)
            _note(site, LINK, outside)
            net.link_set(outside, master=bridge, up=True)
        with Rtnl(pid) as there:
            for address in addresses:
                there.address_add(self.name, address)
            there.link_set(self.name, up=True)
            for gateway in gateways:
                family = "::/0" if ":" in gateway else "0.0.0.0/0"
                there.route_add(Hop(family, gateway=gateway, oif=there.index_of(self.name)))
        site.found[f"addresses of {self.name}"] = " ".join(addresses)

    def undo(self, site: Site) -> None:
        """Removes the pair, and the bridge if it was made here and nobody else is on it."""
        noted = site.found.get("undo", [])
        assert isinstance(noted, list)
        while noted and noted[-1][0] in (LINK, BRIDGE):
            kind, value = noted.pop()
            (remove_link if kind == LINK else remove_bridge)(value)

    def _find_bridge(self, net: Rtnl, site: Site) -> Link:
        bridge = net.find_link(self.bridge)
        if bridge is None and not self.makes:
            raise LookupError(f"there is no bridge {self.bridge!r}: make it first, or use the strategy bridge")
        if bridge is None:
            bridge = self._make_bridge(net)
        if bridge.alias == _MARK:
            _note(site, BRIDGE, self.bridge)
        return bridge

    def _make_bridge(self, net: Rtnl) -> Link:
        try:
            bridge = net.link_add(self.bridge, "bridge", alias=_MARK, mtu=self.mtu or None)
        except AlreadyThereError:
            return net.link(self.bridge)  # another start was quicker
        for own in self._bridge_addresses():
            net.address_add(bridge, own, replace=True)
        net.link_set(bridge, up=True)
        return net.link(bridge)

    def _bridge_addresses(self) -> tuple[str, ...]:
        if self.subnet:
            return (self.subnet,)
        return tuple(f"{gateway}/{prefix_of(gateway, self.addresses)}" for gateway in self.gateways)

    def _take_address(self, net: Rtnl, pid: Pid) -> tuple[str, str]:
        # The name of the outer end is the address: that there is one of a name the kernel makes sure of.
        taken = {link.name for link in net.links(kind="veth")}
        for address, name in addresses_after(self.subnet, self.prefix):
            if name in taken:
                continue
            try:
                self._make(net, name, pid)
            except AlreadyThereError:
                if net.find_link(name) is None:
                    raise  # it is the one inside that is there
                continue
            return name, address
        raise LookupError(f"no address of {self.subnet} is free")

    def _make(self, net: Rtnl, outside: str, pid: Pid) -> None:
        inside = {"name": self.name, "namespace": pid, "mtu": self.mtu or None, "mac": self.mac or None}
        inside["txqueuelen"] = self.tx_queue or None
        net.link_add(outside, "veth", peer=inside, mtu=self.mtu or None)


class MoveDevice(Operation):
    """Moves a device of the host into the container's network namespace, with its permanent global addresses.

    It is not moved back when the container is deleted: a physical one the kernel takes back to the first namespace.
    """

    __slots__ = ("name", "new_name")
    stage = "host"
    late = True
    name: str
    new_name: str

    def describe(self) -> str:
        """What will happen."""
        return f"move the device {self.name} into the container" + (f" as {self.new_name}" if self.new_name else "")

    def do(self, site: Site) -> None:
        """Does it.

        Raises:
            NetlinkError: ENODEV: there is no such device; EEXIST: the name is taken inside; EINVAL: it can't move.
        """
        pid = _pid(site)
        wanted = self.new_name or self.name
        with Rtnl() as net, Rtnl(pid) as there:
            if "%" not in wanted and there.find_link(wanted) is not None:
                raise FileExistsError(errno.EEXIST, "the container has an interface of this name already", wanted)
            link = net.link(self.name)
            kept = [each for each in net.addresses(link) if each.flags & _PERMANENT and each.scope == 0]
            before = {each.ifindex for each in there.links()}
            site.found[f"device {self.name}"] = (link.is_up, [each.cidr for each in kept])
            net.link_set(link, namespace=pid, new_name=wanted if self.new_name else None)
            moved = next(each for each in there.links() if each.ifindex not in before)
            site.found[f"device {self.name} inside"] = moved.name
            try:
                for address in kept:
                    there.address_add(moved, address.cidr, replace=True)
                there.link_set(moved, up=True)
            except BaseException:
                self.undo(site)
                raise

    def undo(self, site: Site) -> None:
        """Moves it back, with its name, addresses and state, if its new namespace is still there."""
        inside = site.found.pop(f"device {self.name} inside", None)
        if inside is None:
            return
        was = site.found[f"device {self.name}"]
        assert isinstance(was, tuple)
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            with Rtnl(_pid(site)) as there:
                there.link_set(there.link(str(inside)), namespace=home, new_name=self.name)
        finally:
            os.close(home)
        with Rtnl() as net:
            for address in was[1]:
                net.address_add(self.name, address, replace=True)
            if was[0]:
                net.link_set(self.name, up=True)


class AddRoutes(Operation):
    """Adds routes in the container, as in 2014; without destination the default route."""

    __slots__ = ("routes",)
    stage = "host"
    late = True
    routes: tuple[Route, ...]

    def describe(self) -> str:
        """What will happen."""
        shown = (f"{each.destination or 'default'} by {each.gateway or each.interface_name}" for each in self.routes)
        return f"add routes: {', '.join(shown)}"

    def do(self, site: Site) -> None:
        """Does it.

        Raises:
            NetlinkError: ENETUNREACH: no way to the gateway; ENODEV: no such interface; EEXIST.
        """
        with Rtnl(_pid(site)) as there:
            for each in self.routes:
                family6 = ":" in (each.destination or each.gateway or "")
                everything = "::/0" if family6 else "0.0.0.0/0"
                oif = there.index_of(each.interface_name) if each.interface_name else 0
                hop = Hop(each.destination or everything, gateway=each.gateway or "", oif=oif)
                there.route_add(hop._replace(preferred_source=each.source) if each.source else hop)


class OpenNetwork(Operation):
    """Opens a network namespace that is to be joined."""

    __slots__ = ("path",)
    stage = "host"
    path: str

    def describe(self) -> str:
        """What will happen."""
        return f"open the network namespace {self.path}"

    def do(self, site: Site) -> None:
        """Does it.

        Raises:
            OSError: ENOENT, EACCES.
        """
        site.descriptors[_NAMESPACE] = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)

    def undo(self, site: Site) -> None:
        """Closes it."""
        fd = site.descriptors.pop(_NAMESPACE, None)
        if fd is not None:
            os.close(fd)


class JoinNetwork(Operation):
    """Joins the network namespace that OpenNetwork opened."""

    __slots__ = ()
    stage = "init"

    def describe(self) -> str:
        """What will happen."""
        return "join the network namespace"

    def do(self, site: Site) -> None:
        """Does it.

        Raises:
            OSError: EINVAL: it is none; EPERM.
        """
        setns(site.descriptors[_NAMESPACE], CloneFlag.NEWNET)
        os.close(site.descriptors.pop(_NAMESPACE))
