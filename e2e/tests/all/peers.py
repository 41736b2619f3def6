# Those who must not hear of a guest, or must: `serve PORT...` answers on ports of both transports and families, `sniff` looks
# at every frame, `names JSON` answers questions for names. Each says what it heard, a line each: "heard MARK", "asked NAME".
import json
import re
import socket
import struct
import sys
import threading

MARK = re.compile(rb"(attempt|twin):[a-z0-9-]+;")
heard = set()
lock = threading.Lock()


def hear(data):
    for mark in MARK.finditer(data):
        say("heard " + mark.group()[:-1].decode())


def say(line):
    with lock:
        if line not in heard:
            heard.add(line)
            print(line, flush=True)


def thread(loop, *arguments):
    threading.Thread(target=loop, args=arguments, daemon=True).start()


def serve_tcp(port):
    listener = socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=4096)
    while True:
        connection, peer = listener.accept()
        thread(serve_connection, connection, peer[0])


def serve_connection(connection, peer):
    with connection:
        connection.settimeout(10)
        try:
            hear(connection.recv(4096))
            connection.sendall(f"hello {peer}\n".encode())
        except OSError:
            pass


def serve_udp(port):
    listener = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    listener.bind(("::", port))
    while True:
        data, peer = listener.recvfrom(4096)
        hear(data)
        try:
            listener.sendto(f"hello {peer[0]}\n".encode(), peer)
        except OSError:
            pass


def sniff():
    wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.ntohs(3))
    wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
    print("ready", flush=True)
    while True:
        data, (_, _, kind, _, _) = wire.recvfrom(65535)
        # Not what this machine sends itself.
        if kind != socket.PACKET_OUTGOING:
            hear(data)


def labels(data, at):
    found = []
    while data[at]:
        found.append(data[at + 1:at + 1 + data[at]].decode("ascii", "replace").lower())
        at += data[at] + 1
    return ".".join(found), at + 1


def answer(data, zone):
    name, at = labels(data, 12)
    kind = struct.unpack("!H", data[at:at + 2])[0]
    say(f"asked {name}")
    addresses = zone.get(name)
    records = [packed(address) for address in addresses or []]
    records = [record for record in records if record[0] == kind]
    code = 0 if addresses is not None else 3
    head = data[:2] + struct.pack("!HHHHH", 0x8180 | code, 1, len(records), 0, 0)
    body = b"".join(b"\xc0\x0c" + struct.pack("!HHIH", kind, 1, 30, len(found)) + found for _, found in records)
    return head + data[12:at + 4] + body


def packed(address):
    if ":" in address:
        return 28, socket.inet_pton(socket.AF_INET6, address)
    return 1, socket.inet_aton(address)


def names(zone):
    listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    listener.bind(("", 53))
    print("ready", flush=True)
    while True:
        data, peer = listener.recvfrom(4096)
        try:
            listener.sendto(answer(data, zone), peer)
        except (IndexError, struct.error):
            pass


role, arguments = sys.argv[1], sys.argv[2:]
if role == "serve":
    for port in arguments:
        thread(serve_tcp, int(port))
        thread(serve_udp, int(port))
    print("ready", flush=True)
    threading.Event().wait()
elif role == "sniff":
    sniff()
else:
    names(json.loads(arguments[0]))
