"""Probes of other processes' sockets and memory, and of networks."""

from tests.security.sandbox.probes.program import Probe

_FAMILIES = """
families = {'vsock': (40, 1, 0), 'alg': (38, 5, 0), 'packet': (17, 3, 0), 'xdp': (44, 3, 0),
            'key': (15, 3, 2), 'bluetooth': (31, 3, 1), 'audit': (16, 3, 9),
            'netfilter': (16, 3, 12), 'uevent': (16, 3, 15),
            'generic': (16, 3, 16), 'xfrm': (16, 3, 6), 'raw': (2, 3, 255),
            'raw6': (10, 3, 255), 'can': (29, 3, 1), 'tipc': (30, 5, 0), 'rds': (21, 5, 0),
            'smc': (43, 1, 0), 'qipcrtr': (42, 2, 0), 'kcm': (41, 2, 0), 'mptcp': (2, 1, 262),
            'sctp': (2, 1, 132), 'dccp': (2, 6, 33), 'l2tp': (2, 2, 115)}
for name, kind in families.items():
    attempt(name, lambda: socket.socket(*kind).close())
"""
_TALK = """
def talk(family, address, kind=socket.SOCK_STREAM):
    try:
        with socket.socket(family, kind) as s:
            s.settimeout(2)
            s.connect(address)
            s.sendall(TOKEN.encode())
            see(s.recv(4096))
    except OSError as error:
        return errno.errorcode.get(error.errno, type(error).__name__)
    return 'OK'
NO_WAY = {'ENETUNREACH', 'EHOSTUNREACH', 'EADDRNOTAVAIL', 'EPERM', 'EACCES', 'EAFNOSUPPORT',
          'ECONNREFUSED'}
"""
_ABSTRACT = """
talk(socket.AF_UNIX, chr(0) + BAIT['abstract'])
try:
    for line in open('/proc/net/unix').read().splitlines()[1:]:
        name = line.split()[-1]
        if name.startswith('@') and talk(socket.AF_UNIX, chr(0) + name[1:]) == 'OK':
            reached('a listener that is not its own')
except OSError:
    pass
"""
_PATHS = """
for path in (BAIT['socket'], '/var/run/docker.sock', '/run/docker.sock',
             '/run/dbus/system_bus_socket', '/run/systemd/private',
             '/run/containerd/containerd.sock', '/run/podman/podman.sock',
             os.environ.get('SSH_AUTH_SOCK', '/none'), '/tmp/.X11-unix/X0'):
    if talk(socket.AF_UNIX, path) in ('OK', 'TimeoutError') and path != BAIT['socket']:
        reached(path)
"""
_SHARED_MEMORY = """
libc.shmat.restype = ctypes.c_void_p
for key in (BAIT['key'],):
    segment = libc.shmget(ctypes.c_int(key), 0, 0)
    if segment >= 0:
        address = libc.shmat(segment, None, 0o10000)
        if address not in (None, ctypes.c_void_p(-1).value):
            see(ctypes.string_at(address, 256))
    if libc.msgget(ctypes.c_int(key), 0) >= 0:
        reached('a queue of the host')
for name in glob.glob('/dev/shm/*') + glob.glob('/dev/mqueue/*'):
    look(name)
"""
_HOST_SERVICES = """
for address in BAIT['addresses']:
    talk(socket.AF_INET, (address, BAIT['port']))
    if talk(socket.AF_INET, (address, 9)) == 'TimeoutError':
        reached('packets leave')
for name in ('localhost', BAIT['hostname'], 'host.docker.internal', 'host.containers.internal'):
    try:
        talk(socket.AF_INET, (socket.gethostbyname(name), BAIT['port']))
    except OSError:
        pass
"""
_METADATA = """
for family, address in ((socket.AF_INET, '169.254.169.254'), (socket.AF_INET, '100.100.100.200'),
                        (socket.AF_INET6, 'fd00:ec2::254'), (socket.AF_INET, '168.63.129.16')):
    if talk(family, (address, 80)) not in NO_WAY:
        reached(address)
"""
_NAMES = """
import struct as packing
question = (packing.pack('>6H', 7, 256, 1, 0, 0, 0) + bytes([len(TOKEN)]) + TOKEN.encode()
            + b'\\x07example\\x03com\\x00' + packing.pack('>2H', 1, 1))
servers = [line.split()[1] for line in open('/etc/resolv.conf') if line.startswith('nameserver')] \\
    if os.path.exists('/etc/resolv.conf') else []
for server in (*servers, '8.8.8.8', '127.0.0.53'):
    for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
        try:
            with socket.socket(socket.AF_INET6 if ':' in server else socket.AF_INET, kind) as s:
                s.settimeout(1)
                s.connect((server, 53))
                s.sendall(question)
                if s.recv(512):
                    reached('a resolver answers')
        except OSError as error:
            if isinstance(error, TimeoutError):
                reached('a question leaves')
for address in BAIT['addresses']:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        works(lambda: s.sendto(question, (address, BAIT['port'])))
for path in ('/run/systemd/resolve/io.systemd.Resolve', '/var/run/nscd/socket', '/run/nscd/socket'):
    if talk(socket.AF_UNIX, path) in ('OK', 'TimeoutError'):
        reached(path)
try:
    socket.getaddrinfo(TOKEN + '.example.com', 80)
    reached('a name resolves')
except OSError:
    pass
finding['reached'] = sorted(set(finding['reached']))
"""
_OTHER_PROTOCOLS = """
for address in BAIT['addresses']:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        works(lambda: s.sendto(TOKEN.encode(), (address, BAIT['port'])))
talk(socket.AF_INET6, ('::1', BAIT['port']))
if talk(socket.AF_INET6, ('2606:4700:4700::1111', 80)) not in NO_WAY:
    reached('IPv6 leaves')
echo = struct.pack('>BBHHH', 8, 0, 0xf7fe, 1, 0)
for address in [a for a in BAIT['addresses'] if not a.startswith('127.')] + ['8.8.8.8']:
    for kind in (socket.SOCK_DGRAM, socket.SOCK_RAW):
        try:
            with socket.socket(socket.AF_INET, kind, socket.IPPROTO_ICMP) as s:
                s.settimeout(1)
                s.sendto(echo, (address, 0))
                reached('ICMP leaves')
        except OSError:
            pass
finding['reached'] = sorted(set(finding['reached']))
"""

PROBES = (
    Probe(number=33, code=_FAMILIES),
    Probe(number=34, code=_TALK + _ABSTRACT),
    Probe(number=35, code=_TALK + _PATHS),
    Probe(number=36, code=_SHARED_MEMORY),
    Probe(number=37, code=_TALK + _HOST_SERVICES),
    Probe(number=38, code=_TALK + _METADATA),
    Probe(number=39, code=_TALK + _NAMES),
    Probe(number=40, code=_TALK + _OTHER_PROTOCOLS),
)
