"""The tunnels that are compared: what each needs, and how it is started between xa and xb.

A peer brings traffic for the other site's EID-prefixes, IPv4 and IPv6, through its tunnel, over the underlay family
that the lab was made for. It raises Skip with a reason when it can't run here, LabError when it should but doesn't.
"""

import json
import os
import shutil
import time

from .lab import EID_PREFIX, FAMILIES, RLOC, SITE_ENDS, UNDERLAY_ENDS, LabError, command


class Skip(Exception):
    """This peer can't be measured here; the text says why."""


class Peer:
    """One row of the comparison."""

    name = ""
    about = ""
    packages = {}  # program -> Debian package that has it

    def __init__(self, options):
        self.options = options

    def version(self):
        """What exactly is measured, for the report."""
        return f"Linux {os.uname().release}"

    def up(self, lab):
        """Start the tunnel in a fresh lab."""
        raise NotImplementedError

    def program(self, name):
        """Path of a program that this peer needs: $NAME of the environment, or as found."""
        variable = name.upper().replace("-", "_")
        found = shutil.which(os.environ.get(variable) or name)
        if not found:
            package = self.packages.get(name)
            raise Skip(f"no {name}" + (f" (Debian package {package})" if package else f" (set {variable} to its path)"))
        return found


def _first_line(*argv):
    return next(iter(command(*argv, check=False).splitlines()), "").strip()


class NoTunnel(Peer):
    name = "none"
    about = "plain forwarding: the machine's limit"

    def up(self, lab):
        for family in FAMILIES:
            for here, there in (("a", "b"), ("b", "a")):
                gateway = RLOC[family, "x" + here][:-1] + "1"
                lab.ip("x" + here, "route", "add", EID_PREFIX[family, there], "via", gateway)
                lab.ip("core", "route", "add", EID_PREFIX[family, there], "via", RLOC[family, "x" + there])


class NoTunnelNoOffloads(NoTunnel):
    name = "none-nogso"
    about = "plain forwarding, one packet at a time on every link"

    def up(self, lab):
        super().up(lab)
        lab.offloads_off(UNDERLAY_ENDS + SITE_ENDS)


class Vxlan(Peer):
    name = "vxlan"
    about = "the kernel's VXLAN"

    def up(self, lab):
        for here, there in (("xa", "xb"), ("xb", "xa")):
            try:
                lab.ip(here, "link", "add", "vxlan0", "type", "vxlan", "id", "42", "dstport", "4789", "dev", "wan",
                       "local", lab.rloc(here), "remote", lab.rloc(there))
            except LabError as e:
                raise Skip(f"this kernel makes no VXLAN device ({e})") from e
            lab.route_through(here, "vxlan0", gateway=True)


class VxlanNoOffloads(Vxlan):
    name = "vxlan-nogso"
    about = "the kernel's VXLAN, one packet at a time on every link"

    def up(self, lab):
        super().up(lab)
        lab.offloads_off(UNDERLAY_ENDS + SITE_ENDS + (("xa", "vxlan0"), ("xb", "vxlan0")))


class _WireGuard(Peer):
    """User-space WireGuard, configured with `wg` over the program's own socket."""

    def start(self, lab, end, device):
        raise NotImplementedError

    def up(self, lab):
        wg = self.program("wg")
        # The configuration sockets are in one directory whatever the namespace: device names carry our pid.
        device = {"xa": f"wa{os.getpid()}", "xb": f"wb{os.getpid()}"}
        secret = {end: command(wg, "genkey").strip() for end in device}
        public = {end: command(wg, "pubkey", stdin=secret[end]).strip() for end in device}
        for end in device:
            self.start(lab, end, device[end])
        for end, other in (("xa", "xb"), ("xb", "xa")):
            lab.wait_device(end, device[end])
            conf = lab.write(f"{end}.conf", "\n".join([
                "[Interface]", f"PrivateKey = {secret[end]}", "ListenPort = 51820",
                "[Peer]", f"PublicKey = {public[other]}", f"Endpoint = {lab.endpoint(other, 51820)}",
                "AllowedIPs = 0.0.0.0/0, ::/0", ""]))
            for attempt in range(40):
                try:
                    lab.run(end, wg, "setconf", device[end], conf)
                    break
                except LabError:
                    if attempt == 39:
                        raise
                    time.sleep(0.05)
            lab.route_through(end, device[end])


class WireguardGo(_WireGuard):
    name = "wireguard-go"
    about = "encrypts; user space, Go"
    packages = {"wireguard-go": "wireguard-go", "wg": "wireguard-tools"}

    def version(self):
        return _first_line(self.program("wireguard-go"), "--version")

    def start(self, lab, end, device):
        lab.daemon(end, self.program("wireguard-go"), "-f", device, tunnel=True,
                   env={"WG_PROCESS_FOREGROUND": "1", "LOG_LEVEL": "error"})


class Boringtun(_WireGuard):
    name = "boringtun"
    about = "encrypts; user space, Rust"
    packages = {"wg": "wireguard-tools"}

    def program(self, name):
        try:
            return super().program(name)
        except Skip as e:
            raise Skip(f"{e}; cargo install boringtun-cli") if name == "boringtun-cli" else e

    def version(self):
        return _first_line(self.program("boringtun-cli"), "--version")

    def start(self, lab, end, device):
        lab.daemon(end, self.program("boringtun-cli"), "--foreground", "--disable-drop-privileges", device, tunnel=True,
                   env={"WG_LOG_LEVEL": "error"})


class Fastd(Peer):
    name = "fastd"
    about = "null method: no encryption; user space, C"
    packages = {"fastd": "fastd"}

    def version(self):
        return _first_line(self.program("fastd"), "--version")

    def up(self, lab):
        fastd = self.program("fastd")
        secret, public = {}, {}
        for end in ("xa", "xb"):
            secret[end] = command(fastd, "--machine-readable", "--generate-key").strip()
            key = lab.write(f"{end}.key", f'secret "{secret[end]}";\n')
            public[end] = command(fastd, "--machine-readable", "--show-key", "--config", key).strip()
        for end, other in (("xa", "xb"), ("xb", "xa")):
            device = f"fastd-{end}"
            conf = lab.write(f"{end}.conf", "\n".join([
                "mode tun;", 'method "null";', "log level error;", f"mtu {lab.mtu};", f'interface "{device}";',
                f'secret "{secret[end]}";', f"bind {lab.endpoint(end, 10000)};",
                'peer "other" {', f'  key "{public[other]}";', f"  remote {lab.endpoint(other, 10000)};",
                f'  interface "{device}";', "}", ""]))
            lab.daemon(end, fastd, "--config", conf, tunnel=True)
            lab.wait_device(end, device)
            lab.route_through(end, device)


class Openvpn(Peer):
    name = "openvpn"
    about = "no cipher, no authentication; user space, C"
    packages = {"openvpn": "openvpn"}

    def version(self):
        return _first_line(self.program("openvpn"), "--version").split(" [")[0]

    def up(self, lab):
        for end, other in (("xa", "xb"), ("xb", "xa")):
            device = f"ovpn-{end}"
            lab.daemon(end, self.program("openvpn"), "--dev", device, "--dev-type", "tun", "--port", "1194",
                       "--proto", "udp" if lab.underlay == "ipv4" else "udp6",
                       "--local", lab.rloc(end), "--remote", lab.rloc(other),
                       "--cipher", "none", "--auth", "none", "--disable-dco",
                       "--tun-mtu", lab.mtu, "--mssfix", "0", "--verb", "1", tunnel=True)
            lab.wait_device(end, device)
        for end in ("xa", "xb"):
            lab.route_through(end, f"ovpn-{end}")


class Eidolon(Peer):
    name = "eidolon"
    about = "this project, segmentation offloads"
    offload = "on"  # refuse to start without, so that the row is what it says

    def version(self):
        return _first_line(self.binary(), "--version")

    def binary(self):
        if not self.options.eidolon:
            raise Skip(self.options.eidolon_missing)
        return self.options.eidolon

    def up(self, lab):
        binary = self.binary()
        key = os.urandom(16).hex()
        lab.daemon("ms", binary, "run", "-c", lab.write("ms.toml", self.mapping_system(lab, key)))
        for end in ("xa", "xb"):
            conf = lab.write(f"{end}.toml", self.tunnel_router(lab, end, key))
            lab.daemon(end, binary, "run", "-c", conf, tunnel=True)
        self.wait_registered(lab)

    def wait_registered(self, lab, seconds=30):
        """Until the Map-Server knows both sites: who asks earlier is told that there is no such site, and remembers."""
        end = time.monotonic() + seconds
        while True:
            shown = command(self.binary(), "show", "sites", "--json", "--socket", lab.path("ms.sock"), check=False)
            prefixes = [prefix for site in json.loads(shown).get("sites", []) for prefix in site["prefixes"]] if shown else []
            if prefixes and all(prefix["registrations"] for prefix in prefixes):
                return
            if why := lab.why_dead():
                raise LabError(why)
            if time.monotonic() > end:
                raise LabError(f"not all EID-prefixes are registered after {seconds} s: {shown or 'show sites says nothing'}")
            time.sleep(0.1)

    @staticmethod
    def common(lab, end):
        return [f'[router]\nname = "{end}"\nstate-dir = "{lab.path(end + "-state")}"',
                f'[management]\nsocket = "{lab.path(end + ".sock")}"', '[log]\nlevel = "warn"']

    def mapping_system(self, lab, key):
        sites = [f'[[site]]\nname = "{site}"\nkey = "{key}"\neid-prefixes = ['
                 + ", ".join(f'"{EID_PREFIX[family, site]}"' for family in FAMILIES) + "]" for site in ("a", "b")]
        return "\n".join(['roles = ["map-server", "map-resolver"]', *self.common(lab, "ms"), *sites, ""])

    def tunnel_router(self, lab, end, key):
        prefixes = [f'[[eid-prefix]]\nprefix = "{EID_PREFIX[family, end[1]]}"' for family in FAMILIES]
        return "\n".join([
            'roles = ["itr", "etr"]', *self.common(lab, end),
            f'[[locator]]\naddress = "{lab.rloc(end)}"', *prefixes,
            f'[[map-server]]\naddress = "{lab.rloc("ms")}"\nkey = "{key}"',
            f'[[map-resolver]]\naddress = "{lab.rloc("ms")}"',
            f'[data-plane]\noffload = "{self.offload}"', ""])


class EidolonUnderlay(Eidolon):
    name = "eidolon-underlay"
    about = "this project, offloads of the underlay's sockets alone"
    offload = "underlay"


class EidolonPlain(Eidolon):
    name = "eidolon-plain"
    about = "this project, one packet per system call"
    offload = "off"


PEERS = {peer.name: peer for peer in (NoTunnel, NoTunnelNoOffloads, Vxlan, VxlanNoOffloads, WireguardGo, Fastd, Openvpn,
                                      Boringtun, Eidolon, EidolonUnderlay, EidolonPlain)}
# Rows of the second, `wire` half of a run over both kinds of underlay: those that a target speaks of.
WIRE_PEERS = ("none", "vxlan", "fastd", "eidolon", "eidolon-underlay", "eidolon-plain")
