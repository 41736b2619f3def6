# Run inside a guest as root: tries everything that a hostile app could, and prints a line for each try that was answered.
# The first line says how many frames were put on the wire.
import fcntl
import os
import socket
import struct
import sys
import threading
import time

HOST, NEIGHBOUR, FAR, METADATA, GATEWAY, VICTIM, OWN = sys.argv[1:8]
PORT = 7000
PATIENCE = 1.0
LOOPBACK = "127.0.0.1"
answered = []
frames = 0


def serve_loopback():
    """A server that the probes must reach: it shows that they work."""
    tcp = socket.create_server((LOOPBACK, PORT))
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind((LOOPBACK, PORT))

    def tcp_loop():
        while True:
            connection, _ = tcp.accept()
            connection.sendall(b"hello\n")
            connection.close()

    def udp_loop():
        while True:
            _, peer = udp.recvfrom(2048)
            udp.sendto(b"hello\n", peer)

    for loop in (tcp_loop, udp_loop):
        threading.Thread(target=loop, daemon=True).start()


def tcp(address, port):
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.settimeout(PATIENCE)
        # A refusal is an answer, too.
        if probe.connect_ex((address, port)) in (0, 111):
            return True
    return False


def udp(address, port):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.settimeout(PATIENCE)
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        try:
            probe.sendto(b"from the guest", (address, port))
            probe.recvfrom(2048)
            return True
        except OSError:
            return False


def checksum(data):
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total > 0xFFFF:
        total = (total >> 16) + (total & 0xFFFF)
    return ~total & 0xFFFF


def ping(address):
    echo = struct.pack("!BBHHH", 8, 0, 0, os.getpid() & 0xFFFF, 1)
    echo = struct.pack("!BBHHH", 8, 0, checksum(echo), os.getpid() & 0xFFFF, 1)
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as probe:
        probe.settimeout(PATIENCE)
        deadline = time.monotonic() + PATIENCE
        try:
            probe.sendto(echo, (address, 0))
            while time.monotonic() < deadline:
                packet, _ = probe.recvfrom(2048)
                if packet[20] == 0:
                    return True
        except OSError:
            pass
    return False


def device():
    return next(name for _, name in socket.if_nameindex() if name != "lo")


def mac_of(name):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        return fcntl.ioctl(probe, 0x8927, struct.pack("256s", name.encode()))[18:24]


def ipv4(source, target, text):
    datagram = struct.pack("!HHHH", 4000, PORT, 8 + len(text), 0) + text
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(datagram), 1, 0, 64, 17, 0,
                       socket.inet_aton(source), socket.inet_aton(target))
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + datagram


def raw():
    """Frames that no honest stack sends: spoofed sources, ARP, broadcasts. Tells of every frame that comes back."""
    global frames
    name = device()
    own = mac_of(name)
    gateway = own[:2] + bytes([0x68]) + own[3:]
    everybody = b"\xff" * 6
    wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.ntohs(3))
    wire.bind((name, 0))
    wire.settimeout(0.1)
    for source in (HOST, NEIGHBOUR, FAR, GATEWAY, VICTIM, "127.0.0.1", "0.0.0.0", "255.255.255.255", OWN):
        for target in (HOST, NEIGHBOUR, FAR, VICTIM, GATEWAY, "255.255.255.255", "192.0.2.255"):
            for station in (gateway, everybody):
                text = f"forged {source}".encode()
                wire.send(station + own + b"\x08\x00" + ipv4(source, target, text))
                wire.send(station + b"\x02\0\0\0\0\x09" + b"\x08\x00" + ipv4(source, target, text))
                frames += 2
    for target in (GATEWAY, HOST, NEIGHBOUR, VICTIM):
        for source in (OWN, GATEWAY, VICTIM):
            arp = struct.pack("!HHBBH6s4s6s4s", 1, 0x0800, 6, 4, 1, own, socket.inet_aton(source), b"\0" * 6,
                              socket.inet_aton(target))
            wire.send(everybody + own + b"\x08\x06" + arp)
            frames += 1
    deadline = time.monotonic() + 2
    while time.monotonic() < deadline:
        try:
            frame = wire.recv(2048)
        except OSError:
            continue
        if frame[6:12] != own and frame[6:12] != b"\x02\0\0\0\0\x09":
            answered.append(f"frame {frame[:42].hex()}")


serve_loopback()
assert tcp(LOOPBACK, PORT) and udp(LOOPBACK, PORT) and ping(LOOPBACK), "the probes do not work"
for address in (HOST, NEIGHBOUR, FAR, METADATA, GATEWAY, VICTIM, "169.254.83.2", "255.255.255.255"):
    for probe, ports in ((tcp, (PORT, 8080, 80)), (udp, (PORT, 53))):
        for port in ports:
            try:
                if probe(address, port):
                    answered.append(f"{probe.__name__} {address} {port}")
            except OSError:
                pass
    if address != "255.255.255.255" and ping(address):
        answered.append(f"ping {address}")
raw()
print(f"frames {frames}")
for line in answered:
    print(line)
