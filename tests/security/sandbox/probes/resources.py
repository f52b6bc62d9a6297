"""Probes that use up what they can, and what outlives the sandbox.

Each stops at a bound of its own, so that a sandbox that sets none hurts nobody.
"""

from tests.security.sandbox.probes.program import Probe

PROCESSES = 400
MIBS = 512
FILES = 40_000
DESCRIPTORS = 5000

_FORKS = f"""
children = []
while len(children) < {PROCESSES}:
    try:
        pid = os.fork()
    except OSError:
        break
    if not pid:
        time.sleep(60)
        os._exit(0)
    children.append(pid)
if len(children) == {PROCESSES}:
    reached('{PROCESSES} processes')
for pid in children:
    os.kill(pid, 9)
    os.waitpid(pid, 0)
"""
_THREADS = f"""
started, over = 0, threading.Event()
threading.stack_size(65536)
try:
    while started < {PROCESSES}:
        threading.Thread(target=over.wait, daemon=True).start()
        started += 1
except RuntimeError:
    pass
if started == {PROCESSES}:
    reached('{PROCESSES} threads')
over.set()
"""
_MEMORY = f"""
BLOCK = b'x' * (1 << 20)
def hog(grow):
    # In a child, because the sandbox may end who holds too much; slowly enough to be watched.
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            with open('/proc/self/oom_score_adj', 'w') as file:
                file.write('1000')
            held = []
            for _ in range({MIBS}):
                held.append(grow())
                os.write(writer, b'.')
                time.sleep(0.001)
        finally:
            os._exit(0)
    os.close(writer)
    count = 0
    while data := os.read(reader, 4096):
        count += len(data)
    os.close(reader)
    os.waitpid(pid, 0)
    return count
def private():
    return bytearray(BLOCK)
def shared():
    block = mmap.mmap(-1, 1 << 20)
    block.write(BLOCK)
    return block
def file_in_memory():
    fd = os.memfd_create('x')
    os.write(fd, BLOCK)
    return fd
def shm():
    with open(f'/dev/shm/{{TOKEN}}', 'ab') as file:
        file.write(BLOCK)
for grow in (private, shared, file_in_memory, shm):
    if hog(grow) == {MIBS}:
        reached(f'{MIBS} MiB ({{grow.__name__}})')
for name in glob.glob('/dev/shm/' + TOKEN):
    os.unlink(name)
"""
_DISK = f"""
BLOCK = b'x' * (1 << 20)
for place in ('.', '/tmp', '/dev/shm', os.path.expanduser('~')):
    name, count = f'{{place}}/{{TOKEN}}', 0
    try:
        with open(name, 'wb', buffering=0) as file:
            while count < {MIBS} and file.write(BLOCK) == len(BLOCK):
                count += 1
    except OSError:
        pass
    if os.path.exists(name):
        os.unlink(name)
    if count == {MIBS}:
        reached(f'{MIBS} MiB in {{place}}')
"""
_INODES = f"""
os.mkdir(TOKEN)
count = 0
try:
    while count < {FILES}:
        os.close(os.open(f'{{TOKEN}}/{{count}}', os.O_CREAT | os.O_WRONLY))
        count += 1
except OSError:
    pass
if count == {FILES}:
    reached('{FILES} files')
import shutil
shutil.rmtree(TOKEN)
"""
_SPARSE = """
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
for place in ('.', '/tmp', '/dev/shm'):
    name = f'{place}/{TOKEN}'
    try:
        with open(name, 'wb') as file:
            file.truncate(10 << 40)
        reached(f'ten terabytes in {place}')
    except OSError:
        pass
    if os.path.exists(name):
        os.unlink(name)
"""
_DESCRIPTORS = f"""
try:
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
except (OSError, ValueError):
    pass
opened = []
try:
    while len(opened) < {DESCRIPTORS}:
        opened.append(os.open('/dev/null', os.O_RDONLY))
except OSError:
    pass
for fd in opened:
    os.close(fd)
if len(opened) == {DESCRIPTORS}:
    reached('{DESCRIPTORS} descriptors')
"""
# The whole machine's user has 128 instances: who can take them all takes them from the host.
_WATCHES = """
opened = []
while len(opened) < 100:
    fd = libc.inotify_init1(0)
    if fd < 0:
        break
    opened.append(fd)
if len(opened) == 100:
    reached('100 instances of inotify')
for fd in opened:
    os.close(fd)
import tempfile
count, libc.mq_open.argtypes = 0, [ctypes.c_char_p, ctypes.c_int, ctypes.c_uint, ctypes.c_void_p]
while count < 64:
    name = f'/{TOKEN}{count}'.encode()
    queue = libc.mq_open(name, os.O_CREAT | os.O_RDWR, 0o600, None)
    if queue < 0:
        break
    libc.mq_unlink(name)
    count += 1
if count == 64:
    reached('64 queues')
"""
_KILLING = """
def name_of(pid):
    try:
        return open(f'/proc/{pid}/cmdline').read()
    except OSError:
        return ''
for number_ in range(1, 65):
    works(lambda: os.kill(1, number_))
for pid in others():
    if TOKEN in name_of(pid) and 'marker' in name_of(pid):
        works(lambda: os.kill(int(pid), 9))
signal.signal(signal.SIGTERM, signal.SIG_IGN)
works(lambda: os.kill(-1, signal.SIGTERM))
"""
_CORES = """
try:
    resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY,) * 2)
    reached('the limit of dumps was raised')
except (OSError, ValueError):
    pass
before = set(os.listdir('.'))
in_child(lambda: os.kill(os.getpid(), signal.SIGSEGV))
for name in set(os.listdir('.')) - before:
    reached('a dump')
    os.unlink(name)
if resource.getrlimit(resource.RLIMIT_CORE)[0] not in (0, 1):
    reached('dumps are not limited')
if open('/proc/sys/kernel/core_pattern').read().startswith('|') and \\
        resource.getrlimit(resource.RLIMIT_CORE)[0] != 1:
    reached('a crash starts a program of the host')
"""
_DAEMON = """
for _ in range(2):
    if os.fork():
        tell()
    os.setsid()
    for number_ in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT):
        signal.signal(number_, signal.SIG_IGN)
null = os.open(os.devnull, os.O_RDWR)
for fd in (0, 1, 2):
    os.dup2(null, fd)
os.execvp('python3', ['python3', '-c', 'import time; time.sleep(600)', 'daemon-' + TOKEN])
"""

PROBES = (
    Probe(number=44, code=_FORKS, small=True),
    Probe(number=45, code=_THREADS, small=True),
    Probe(number=46, code=_MEMORY, small=True),
    Probe(number=47, code=_DISK, small=True),
    Probe(number=48, code=_INODES, small=True),
    Probe(number=49, code=_SPARSE, small=True),
    Probe(number=50, code=_DESCRIPTORS, small=True),
    Probe(number=58, code=_DAEMON, after_end=True),
    Probe(number=60, code=_WATCHES, small=True),
    Probe(number=61, code=_KILLING, alone=False, may_die=True),
    Probe(number=64, code=_CORES),
)
