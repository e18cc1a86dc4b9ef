"""UDP load, as two small programs that run inside a namespace.

    load.py sink PORT                                   take datagrams until ended
    load.py send ADDRESS PORT SIZE RATE SECONDS         send; RATE in datagrams per second, 0 = as fast as possible

The sender hands the kernel up to 64 datagrams per system call, one datagram per packet (no segmentation offload), so
that one CPU can offer several times what the tunnels here can carry. The sink never reads: its full receive buffer
makes the kernel count each datagram that reached the UDP layer (Udp: RcvbufErrors) and drop it there, so that the
receiving program costs nothing and what is measured is the tunnel.
"""

import ctypes
import errno
import json
import os
import signal
import socket
import sys
import time

BATCH = 64
PERIOD = 0.0005  # seconds between two bursts of a paced sender
_libc = ctypes.CDLL(None, use_errno=True)


class _Iovec(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("len", ctypes.c_size_t)]


class _Msghdr(ctypes.Structure):
    _fields_ = [
        ("name", ctypes.c_void_p), ("namelen", ctypes.c_uint32),
        ("iov", ctypes.POINTER(_Iovec)), ("iovlen", ctypes.c_size_t),
        ("control", ctypes.c_void_p), ("controllen", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    ]


class _Mmsghdr(ctypes.Structure):
    _fields_ = [("hdr", _Msghdr), ("len", ctypes.c_uint)]


def _family(address):
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def send(address, port, size, rate, seconds):
    """Send datagrams of `size` payload bytes; {"sent": datagrams, "seconds": time it took}."""
    sock = socket.socket(_family(address), socket.SOCK_DGRAM)
    sock.connect((address, port))
    payload = ctypes.create_string_buffer(bytes(i & 0xFF for i in range(size)), size)
    iov = _Iovec(ctypes.addressof(payload), size)
    messages = (_Mmsghdr * BATCH)()
    for message in messages:
        message.hdr.iov, message.hdr.iovlen = ctypes.pointer(iov), 1
    fd, sent = sock.fileno(), 0

    def burst(count):
        nonlocal sent
        while count > 0:
            done = _libc.sendmmsg(fd, messages, min(count, BATCH), 0)
            if done < 0:
                code = ctypes.get_errno()
                if code not in (errno.ENOBUFS, errno.EAGAIN, errno.EINTR, errno.ECONNREFUSED):
                    raise OSError(code, os.strerror(code))
                done = 0
                count -= 1
            sent += done
            count -= done

    start = now = time.monotonic()
    if rate == 0:
        while now - start < seconds:
            burst(BATCH * 4)
            now = time.monotonic()
    else:
        os.nice(-10)  # a paced load stands for another machine's: it comes when it is due, not when a CPU is free
        most = max(1, int(rate * PERIOD * 2))  # catching up may not become a flood
        due_from, paced = start, 0
        while now - start < seconds:
            due = int((now - due_from) * rate) - paced
            if due > most:  # we were not given the CPU in time: what was missed stays unsent
                due_from += (due - most) / rate
                due = most
            burst(due)
            paced += due
            time.sleep(max(0.0, PERIOD - (time.monotonic() - now)))
            now = time.monotonic()
    sock.close()
    return {"sent": sent, "seconds": time.monotonic() - start}


def sink(port):
    """Open sockets of both families with full receive buffers, say so, and wait."""
    sockets = []
    for family, loopback in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        sock = socket.socket(family, socket.SOCK_DGRAM)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)  # the kernel's least
        sock.bind(("::" if family == socket.AF_INET6 else "0.0.0.0", port))
        filler = socket.socket(family, socket.SOCK_DGRAM)
        for _ in range(100):
            filler.sendto(b"x", (loopback, port))
        sockets += [sock, filler]
    print("ready", flush=True)
    signal.pause()


def reached(pid):
    """Datagrams dropped at the full sockets of the namespace in which process `pid` lives, both families."""
    total = 0
    with open(f"/proc/{pid}/net/snmp") as file:
        names, values = [line.split() for line in file if line.startswith("Udp:")]
        total += int(values[names.index("RcvbufErrors")])
    with open(f"/proc/{pid}/net/snmp6") as file:
        total += sum(int(line.split()[1]) for line in file if line.startswith("Udp6RcvbufErrors"))
    return total


if __name__ == "__main__":
    if sys.argv[1] == "sink":
        sink(int(sys.argv[2]))
    else:
        _, _, to, to_port, bytes_each, per_second, how_long = sys.argv
        print(json.dumps(send(to, int(to_port), int(bytes_each), float(per_second), float(how_long))))
