"""Probes of the kernel's surface."""

from tests.security.sandbox.probes.program import Probe

_USER_NAMESPACES = """
NEWUSER = 0x10000000
attempt_in_child = lambda name, action: in_child(action) or reached(name)
attempt_in_child('unshare', lambda: libc.unshare(NEWUSER))
def clone():
    pid = call(number(56, 220), NEWUSER | 17, 0, 0, 0, 0)
    if pid == 0:
        os._exit(0)
    return pid
attempt_in_child('clone', clone)
def clone3():
    arguments = ctypes.create_string_buffer(struct.pack('8Q', NEWUSER, 0, 0, 0, 17, 0, 0, 0))
    pid = call(435, arguments, 64)
    if pid == 0:
        os._exit(0)
    return pid
attempt_in_child('clone3', clone3)
for bit, name in ((0x20000, 'mount'), (0x40000000, 'network'), (0x20000000, 'pid'),
                  (0x8000000, 'ipc'), (0x4000000, 'uts'), (0x2000000, 'cgroup'), (0x80, 'time')):
    attempt_in_child(f'unshare of {name}', lambda: libc.unshare(bit))
"""
_SETNS = """
own = {kind: os.readlink('/proc/self/ns/' + kind) for kind in os.listdir('/proc/self/ns')}
for kind, name in BAIT['namespaces'].items():
    if own.get(kind) == name:
        reached(f'shares the host\\'s {kind} namespace')
for pid in others():
    for kind in ('mnt', 'net', 'pid', 'user', 'ipc', 'uts'):
        path = f'/proc/{pid}/ns/{kind}'
        try:
            if os.readlink(path) == own[kind]:
                continue
            fd = os.open(path, os.O_RDONLY)
        except OSError:
            continue
        if not in_child(lambda: libc.setns(fd, 0)):
            reached(f'entered another {kind} namespace')
        os.close(fd)
try:
    fd = call(434, os.getppid() or 1, 0)
    if fd >= 0 and not in_child(lambda: libc.setns(fd, 0x20000 | 0x10000000)):
        reached('entered a namespace by pidfd')
except OSError:
    pass
finding['reached'] = sorted(set(finding['reached']))
"""
_MOUNTS = """
attempt('mount', lambda: libc.mount(b'none', b'/tmp', b'tmpfs', 0, None))
attempt('proc', lambda: libc.mount(b'proc', b'/tmp', b'proc', 0, None))
attempt('umount', lambda: libc.umount2(b'/proc', 2))
attempt('fsopen', lambda: call(430, b'tmpfs', 0))
attempt('fspick', lambda: call(433, -100, b'/', 0))
attempt('open_tree', lambda: call(428, -100, b'/usr', 1))
attempt('move_mount', lambda: call(429, -100, b'/usr', -100, b'/tmp', 0))
attempt('mount_setattr', lambda: call(442, -100, b'/', 0, bytes(32), 32))
attempt('pivot_root', lambda: call(number(155, 41), b'.', b'.'))
os.makedirs('jail', exist_ok=True)
if not in_child(lambda: libc.chroot(b'jail')):
    reached('chroot')
def climb():
    if libc.chroot(b'jail'):
        raise OSError
    for _ in range(64):
        os.chdir('..')
    libc.chroot(b'.')
    for path in BAIT['files']:
        os.close(os.open(path.lstrip('/'), os.O_RDONLY))
if not in_child(climb):
    reached('climbed out of a chroot')
os.rmdir('jail')
"""
_BPF = """
attributes = ctypes.create_string_buffer(struct.pack('5I', 2, 4, 4, 1, 0) + bytes(108))
attempt('a map', lambda: call(number(321, 280), 0, attributes, 128))
program = ctypes.create_string_buffer(
    struct.pack('BBhi', 0xb7, 0, 0, 0) + struct.pack('BBhi', 0x95, 0, 0, 0))
licence = ctypes.create_string_buffer(b'GPL')
load = struct.pack('IIQQIIQ', 1, 2, ctypes.addressof(program), ctypes.addressof(licence), 0, 0, 0)
load = ctypes.create_string_buffer(load + bytes(88))
attempt('a program', lambda: call(number(321, 280), 5, load, 128))
"""
_PERF = """
def event(kind, config, pid):
    attributes = struct.pack('IIQQQQQ', kind, 112, config, 0, 0, 0, 0x60) + bytes(64)
    return call(number(298, 241), ctypes.create_string_buffer(attributes), pid, -1, -1, 0)
attempt('own clock', lambda: event(1, 0, 0))
attempt('own cycles', lambda: event(0, 0, 0))
attempt('all processes', lambda: event(1, 0, -1))
"""
_IO_URING = """
attempt('a ring', lambda: call(425, 8, ctypes.create_string_buffer(120)))
attempt('a registration', lambda: call(427, -1, 21, ctypes.create_string_buffer(64), 1))
"""
_KEYS = """
add, request, ctl = number(248, 217), number(249, 218), number(250, 219)
attempt('a key', lambda: call(add, b'user', TOKEN.encode(), b'x', 1, -3))
attempt('a session', lambda: call(ctl, 1, 0))
attempt('the user\\'s keys', lambda: call(ctl, 0, -4, 0))
attempt('a request', lambda: call(request, b'user', TOKEN.encode(), 0, -3))
if look('/proc/keys'):
    reached('/proc/keys')
"""
_USERFAULTFD = """
for name, flags in (('all faults', 0), ('faults of user mode', 1)):
    attempt(name, lambda: call(number(323, 282), flags))
attempt('/dev/userfaultfd', lambda: os.open('/dev/userfaultfd', os.O_RDWR))
"""
# With arguments that change nothing where they are let through.
_ADMINISTRATION = """
def denied(action):
    ctypes.set_errno(0)
    return action() < 0 and ctypes.get_errno() in (errno.EPERM, errno.ENOSYS, errno.EACCES)
name = os.uname().nodename
calls = {
    'kexec': lambda: call(number(246, 104), 0, 17, 0, 0xffff0000),
    'init_module': lambda: call(number(175, 105), b'', 0, b''),
    'finit_module': lambda: call(number(313, 273), -1, b'', 0),
    'delete_module': lambda: call(number(176, 106), TOKEN.encode(), 0),
    'reboot': lambda: call(number(169, 142), 1, 2, 3, 0),
    'swapon': lambda: libc.swapon(b'/nowhere', 0),
    'settimeofday': lambda: call(number(164, 170), 0, 0),
    'sethostname': lambda: libc.sethostname(name.encode(), len(name)),
    'acct': lambda: libc.acct(b'/nowhere'),
}
for kind, action in calls.items():
    if not denied(action):
        reached(kind)
"""
_TRACING = """
pid = BAIT['pid']
def name_of(number_):
    try:
        return open(f'/proc/{number_}/cmdline').read()
    except OSError:
        return ''
numbers = {pid, *map(int, others())}
victims = [each for each in numbers if 'marker-' + TOKEN in name_of(each)]
for victim in victims:
    reached('sees a process of the host')
    look(f'/proc/{victim}/environ')
    buffer = ctypes.create_string_buffer(8)
    try:
        start = int(open(f'/proc/{victim}/maps').readline().split('-')[0], 16)
        vector, remote = (struct.pack('PN', at, 8) for at in (ctypes.addressof(buffer), start))
        attempt('memory', lambda: libc.process_vm_readv(victim, vector, 1, remote, 1, 0) - 1)
    except (OSError, ValueError):
        pass
    attempt('trace', lambda: libc.ptrace(0x4206, victim, None, None))
    works(lambda: os.kill(victim, signal.SIGUSR1))
"""
_OTHER_TABLES = """
def code(text):
    page = mmap.mmap(-1, 4096, prot=7)
    page.write(bytes.fromhex(text))
    address = ctypes.addressof(ctypes.c_char.from_buffer(page))
    return ctypes.CFUNCTYPE(ctypes.c_int)(address)
if not ARM:
    # mov eax, 20 (getpid of i386); int 0x80; ret
    old = code('b814000000cd80c3')
    if not in_child(lambda: 0 if old() == os.getpid() else -1):
        reached('int 0x80')
    if not in_child(lambda: 0 if call(0x40000000 + 39) == os.getpid() else -1):
        reached('x32')
"""
_TYPING = """
import fcntl, pty, termios
pid, leader = pty.fork()
if not pid:
    for request in (0x5412, 0x541C):
        for byte in b'typed':
            try:
                fcntl.ioctl(0, request, bytes([byte]))
            except OSError:
                pass
    os.write(1, b'done')
    os._exit(0)
text = b''
try:
    while b'done' not in text:
        text += os.read(leader, 1000)
except OSError:
    pass
if b'typed' in text:
    reached('TIOCSTI on its own terminal')
os.waitpid(pid, 0)
try:
    fd = os.open('/dev/tty', os.O_RDWR | os.O_NONBLOCK)
    reached('holds a terminal of the host')
except OSError:
    pass
"""
_PRIVILEGES = """
status = dict(line.split(':', 1) for line in open('/proc/self/status') if ':' in line)
if status['NoNewPrivs'].strip() != '1':
    reached('may gain privileges')
if status['Seccomp'].strip() != '2':
    reached('no filter of system calls')
for kind in ('Eff', 'Prm', 'Inh', 'Bnd', 'Amb'):
    if int(status['Cap' + kind], 16):
        reached(f'capabilities ({kind.lower()})')
libc.prctl(38, 0, 0, 0, 0)
if libc.prctl(39, 0, 0, 0, 0) != int(status['NoNewPrivs']):
    reached('took no_new_privs back')
"""
_SEGMENTS = """
if not ARM:
    attempt('modify_ldt', lambda: call(154, 1, struct.pack('4I', 0, 0, 0, 0x28), 16))
attempt('fanotify', lambda: libc.fanotify_init(0, 0))
attempt('fanotify without rights', lambda: libc.fanotify_init(0x200, 0))
attempt('quotactl', lambda: libc.quotactl(0x800001 << 8, None, 0, None))
"""
# Writes back what is there, but for one harmless setting, whose change the host sees and mends.
_SETTINGS = """
for name in ('kernel/core_pattern', 'kernel/modprobe', 'vm/overcommit_memory', 'fs/file-max',
             'user/max_user_namespaces'):
    path = '/proc/sys/' + name
    try:
        value = open(path).read()
        with open(path, 'w') as file:
            file.write(value)
    except OSError:
        continue
    reached(name)
try:
    value = int(open('/proc/sys/' + BAIT['setting']).read())
    with open('/proc/sys/' + BAIT['setting'], 'w') as file:
        file.write(str(value + 1))
except OSError:
    pass
attempt('sysrq', lambda: os.close(os.open('/proc/sysrq-trigger', os.O_WRONLY)))
own = int(open('/proc/self/oom_score_adj').read())
def score():
    with open('/proc/self/oom_score_adj', 'w') as file:
        file.write('-1000')
attempt('out of the way of the memory killer', score)
attempt('niceness', lambda: os.nice(-5) + 100)
"""
_KERNEL_MEMORY = """
for name in ('/proc/kcore', '/dev/mem', '/dev/kmem', '/dev/port', '/dev/kmsg', '/proc/kmsg',
             '/sys/kernel/debug', '/sys/kernel/tracing', '/sys/kernel/security'):
    if works(lambda: os.close(os.open(name, os.O_RDONLY))):
        entries = os.listdir(name) if os.path.isdir(name) else ['x']
        entries and reached(name)
try:
    if any(int(line.split()[0], 16) for line in open('/proc/kallsyms').readlines()[:50]):
        reached('addresses of symbols')
except (OSError, ValueError, IndexError):
    pass
buffer = ctypes.create_string_buffer(4096)
attempt('messages of the kernel', lambda: libc.klogctl(3, buffer, 4096) - 1)
for place in ('/sys/fs/cgroup', *glob.glob('/sys/fs/cgroup/*')):
    if os.path.isdir(place) and works(lambda: os.mkdir(f'{place}/{TOKEN}')):
        os.rmdir(f'{place}/{TOKEN}')
        reached('control groups')
    for name in ('release_agent', 'cgroup.procs'):
        if os.path.exists(f'{place}/{name}'):
            attempt(name, lambda: os.close(os.open(f'{place}/{name}', os.O_WRONLY)))
finding['reached'] = sorted(set(finding['reached']))
"""

PROBES = (
    Probe(number=17, code=_USER_NAMESPACES),
    Probe(number=18, code=_SETNS),
    Probe(number=19, code=_MOUNTS, alone=False),
    Probe(number=20, code=_BPF),
    Probe(number=21, code=_PERF),
    Probe(number=22, code=_IO_URING),
    Probe(number=23, code=_KEYS),
    Probe(number=24, code=_USERFAULTFD),
    Probe(number=25, code=_ADMINISTRATION),
    Probe(number=26, code=_TRACING),
    Probe(number=27, code=_OTHER_TABLES),
    Probe(number=28, code=_TYPING),
    Probe(number=29, code=_PRIVILEGES),
    Probe(number=30, code=_SEGMENTS),
    Probe(number=31, code=_SETTINGS),
    Probe(number=32, code=_KERNEL_MEMORY),
)
