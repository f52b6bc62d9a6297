"""Probes of the host's files and data."""

from tests.security.sandbox.probes.program import Probe

_HOST_FILES = """
for path in BAIT['files']:
    look(path)
for path in ('/etc/shadow', '/etc/gshadow', *glob.glob('/etc/ssh/*_key')):
    look(path)
for home in ('/root', *glob.glob('/home/*'), os.path.expanduser('~')):
    for path in glob.glob(home + '/.*/*') + glob.glob(home + '/*'):
        look(path)
"""
_ENVIRONMENT = """
see(repr(dict(os.environ)))
for name in glob.glob('/proc/[0-9]*/environ') + glob.glob('/proc/[0-9]*/cmdline'):
    try:
        see(open(name, 'rb').read())
    except OSError:
        pass
"""
_OTHER_PROCESSES = """
for pid in others():
    for path in BAIT['files']:
        look(f'/proc/{pid}/root{path}')
        look(f'/proc/{pid}/cwd/../../../../../../..{path}')
    try:
        for fd in os.listdir(f'/proc/{pid}/fd'):
            look(f'/proc/{pid}/fd/{fd}')
    except OSError:
        pass
"""
_WRITES = """
for place in ('/', '/usr', '/usr/bin', '/usr/lib', '/etc', '/etc/cron.d', '/var', '/var/spool',
              '/opt', '/root', '/boot', '/srv', *BAIT['places']):
    mark(place)
"""
_REMOUNTS = """
def everything():
    MS_REMOUNT, MS_BIND, MS_REC, MS_MOVE = 32, 4096, 16384, 8192
    for place in ('/', '/usr', '/etc', '/root', '/home', *BAIT['places']):
        target = place.encode()
        libc.mount(None, target, None, MS_REMOUNT | MS_BIND, None)
        libc.mount(None, target, None, MS_REMOUNT, None)
        mark(place)
        libc.umount2(target, 2)
        mark(place)
        libc.mount(target, b'/tmp', None, MS_BIND | MS_REC, None)
        libc.mount(None, b'/tmp', None, MS_REMOUNT | MS_BIND, None)
        mark('/tmp')
        os.path.exists('/tmp/' + TOKEN) and os.unlink('/tmp/' + TOKEN)
    for path in BAIT['files']:
        look(path)
    tell()
everything_plain = os.fork()
if not everything_plain:
    sys.stdout = open(os.devnull, 'w')
    everything()
os.waitpid(everything_plain, 0)
libc.unshare(0x10000000 | 0x20000)
try:
    open('/proc/self/uid_map', 'w').write('0 %d 1' % os.getuid())
except OSError:
    pass
everything()
"""
_HARD_LINKS = """
for path in (*BAIT['files'], '/etc/shadow', '/proc/1/root/etc/shadow'):
    for place in ('.', '/tmp', os.path.expanduser('~')):
        try:
            os.link(path, f'{place}/{TOKEN}')
        except OSError:
            continue
        look(f'{place}/{TOKEN}')
        os.unlink(f'{place}/{TOKEN}')
"""
_DEVICES = """
nodes = ((stat.S_IFBLK, 8, 0), (stat.S_IFBLK, 254, 0), (stat.S_IFBLK, 7, 0),
         (stat.S_IFCHR, 1, 1), (stat.S_IFCHR, 10, 232), (stat.S_IFCHR, 5, 1))
for place in ('.', '/tmp', '/dev', '/dev/shm'):
    for kind, major, minor in nodes:
        name = f'{place}/{TOKEN}-{major}-{minor}'
        if not works(lambda: os.mknod(name, kind | 0o666, os.makedev(major, minor))):
            continue
        attempt(f'device {major}:{minor} opened', lambda: os.close(os.open(name, os.O_RDONLY)))
        os.unlink(name)
for name in glob.glob('/dev/*'):
    kind = os.stat(name).st_mode if os.path.exists(name) else 0
    if stat.S_ISBLK(kind) or name[5:] in ('mem', 'kvm', 'fuse', 'kmsg', 'vsock'):
        attempt(name + ' opened', lambda: os.close(os.open(name, os.O_RDONLY)))
finding['reached'] = sorted(set(finding['reached']))
"""
_IDENTITY = """
# What root of the host owns belongs to this very user, whatever number that has here.
if BAIT['root'] and os.stat('/usr/bin').st_uid == os.getuid():
    reached('is root on the host')
import shutil
shutil.copy(shutil.which('id'), './' + TOKEN)
os.chmod('./' + TOKEN, 0o6777)
own = os.getuid()
runs = [['./' + TOKEN, '-u'], ['su', '-c', 'id -u'], ['sudo', '-n', 'id', '-u'],
        ['pkexec', 'id', '-u'], ['newuidmap', str(os.getpid()), '0', '0', '1']]
for run in runs:
    try:
        done = subprocess.run(run, stdin=subprocess.DEVNULL, capture_output=True, timeout=5)
    except (OSError, subprocess.TimeoutExpired):
        continue
    if run[0] == 'newuidmap' and done.returncode == 0:
        reached('mapped to root')
    if run[0] != 'newuidmap' and done.stdout.strip().isdigit() and int(done.stdout) != own:
        reached(run[0] + ' changed the user')
os.unlink('./' + TOKEN)
"""
_DESCRIPTORS = """
for fd in os.listdir('/proc/self/fd'):
    try:
        target = os.readlink('/proc/self/fd/' + fd)
    except OSError:
        continue
    if int(fd) > 2:
        reached(f'descriptor {fd}')
"""
_HANDLES = """
handle = ctypes.create_string_buffer(struct.pack('Ii', 128, 0) + bytes(128))
mount = ctypes.c_int()
given = call(number(303, 264), -100, b'/etc/passwd', handle, ctypes.byref(mount), 0) >= 0
root = os.open('/', os.O_RDONLY)
guesses = [ctypes.create_string_buffer(struct.pack('IiII', 8, 1, inode, 0) + bytes(120))
           for inode in (2, 128)]
for guess in ([handle] if given else []) + guesses:
    attempt('a handle was opened', lambda: call(number(304, 265), root, guess, os.O_RDONLY))
"""

PROBES = (
    Probe(number=1, code=_HOST_FILES),
    Probe(number=2, code=_ENVIRONMENT),
    Probe(number=3, code=_OTHER_PROCESSES),
    Probe(number=4, code=_WRITES),
    Probe(number=5, code=_REMOUNTS, alone=False),
    Probe(number=8, code=_HARD_LINKS),
    Probe(number=10, code=_DEVICES),
    Probe(number=11, code=_IDENTITY),
    Probe(number=13, code=_DESCRIPTORS),
    Probe(number=14, code=_HANDLES),
)
