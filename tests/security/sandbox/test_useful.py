"""What has to keep working in a box, however tight it is: the tools of building software."""

import http.server
import threading
import zipfile
from collections.abc import Generator
from functools import partial

import pytest

from tests.security.machine import Box, Machine

OVERFLOW = "int main(int c, char **v) { char *p = malloc(8); p[8 * c] = 1; free(p); return 0; }"
LEAK = "int main(void) { volatile char *p = malloc(77); p = 0; return p != 0; }"
CRASH = "static void deep(int *p) { *p = 1; } int main(void) { deep(0); return 0; }"
COMMIT = "git -c user.name=x -c user.email=x@y commit -q"

# What a shell script must print somewhere.
# ruff: noqa: ISC004 - a script and what it prints, side by side
SHELL = {
    "compiler": (
        "printf '#include <stdio.h>\nint main(void) { puts(\"built\"); }' >a.c; gcc a.c && ./a.out",
        "built",
    ),
    "address sanitizer": (
        f"echo '#include <stdlib.h>\n{OVERFLOW}' >o.c; gcc -g -fsanitize=address o.c -o o && ./o",
        "heap-buffer-overflow",
    ),
    "leak sanitizer": (
        f"echo '#include <stdlib.h>\n{LEAK}' >l.c; gcc -g -fsanitize=address l.c -o l && ./l",
        "77 byte(s) leaked",
    ),
    "undefined behaviour": (
        "echo 'int main(int c, char **v) { int x = 2147483647; x += c; return x & 1; }' >u.c;"
        "gcc -fsanitize=undefined u.c -o u && ./u",
        "signed integer overflow",
    ),
    "make": (
        "printf 'all: a b c\\na b c:\\n\\techo m >$@\\n' >Makefile; make -sj3; cat a b c | wc -l",
        "3",
    ),
    "strace": ("strace -f -e trace=write sh -c 'echo traced; (echo child)'", 'write(1, "child'),
    "gdb": (
        f"echo '{CRASH}' >c.c; gcc -g -O0 c.c -o c; gdb -q -batch -ex run -ex bt -ex 'p *p' ./c",
        "in deep (p=0x0)",
    ),
    "node workers": (
        "node -e \"const w = require('worker_threads');"
        "const code = 'require(\\\"worker_threads\\\").parentPort.postMessage(6 * 7)';"
        "new w.Worker(code, {eval: true})"
        ".on('message', console.log)\"",
        "42",
    ),
    "node server": (
        "node -e \"const h = require('http'); const s = h.createServer((q, r) => r.end('served'));"
        "s.listen(0, () => h.get({port: s.address().port}, r => r.on('data', d => {"
        'console.log(String(d)); s.close() })))"',
        "served",
    ),
    "git": (
        "git init -q g && cd g && echo 1 >f && git add f && "
        f"{COMMIT} -m one && git checkout -q -b side && echo 2 >g && git add g && "
        f"{COMMIT} -m two && "
        f"git checkout -q - && echo 3 >>f && {COMMIT} -am three && git checkout -q side && "
        "git -c user.name=x -c user.email=x@y rebase -q @{-1} && git log --format=%s | xargs && "
        "git stash list && git worktree add -q ../w && git gc -q && git fsck",
        "two three one",
    ),
    "terminal": (
        "script -qec 'tty; stty size; test -t 1 && echo interactive' /dev/null",
        "interactive",
    ),
    "job control": ("bash -mc 'sleep 100 & jobs; kill %1; wait %1; echo ended $?'", "ended 143"),
    "file lock": ("(flock 9; (flock -n 8 || echo held) 8>lock) 9>lock", "held"),
    "deep path": (
        "for n in $(seq 200); do mkdir dddddddddd; cd dddddddddd; done; echo deep >f;"
        "cat f; cd $HERE; find . -name f | wc -c; rm -r dddddddddd && echo gone",
        "gone",
    ),
    "odd names": ("touch -- \"$(printf 'a\\377\\nb')\" '*' '-rf' ' '; ls -b -- *", "a\\377\\nb"),
    "clock and locale": ("TZ=UTC date -d @0 +%Y; locale charmap", "UTF-8"),
    "archives": ("mkdir t; echo 1 >t/f; tar -cz t | tar -tz; gzip -c t/f | zcat", "t/f"),
    "pipes": ("yes | head -c 5000000 | sha1sum | wc -c; echo ${PIPESTATUS:-0}", "44"),
}


@pytest.mark.parametrize("name", SHELL)
def test_tools_work(boxes: dict[bool, Box], name: str) -> None:
    """Compilers, sanitizers, debuggers, tracers, runtimes and the shell do what they are for."""
    script, expected = SHELL[name]
    place = f"/workspace/tools/{name.replace(' ', '-')}"
    said = boxes[False].sh(f"rm -rf {place}; mkdir -p {place}; cd {place}; HERE=$PWD\n{script}")
    assert expected in said, said


# Each prints OK, unless it fails.
PYTHON = {
    "modules": "import bz2, ctypes, hashlib, lzma, readline, sqlite3, ssl, zlib; print('OK')",
    "multiprocessing": """
import multiprocessing
with multiprocessing.Pool(3) as pool:
    print('OK' if pool.map(abs, range(-9, 0)) == list(range(9, 0, -1)) else 'no')
""",
    "shared memory": """
from multiprocessing import shared_memory
block = shared_memory.SharedMemory(create=True, size=1 << 20)
block.buf[:2] = b'OK'
other = shared_memory.SharedMemory(block.name)
print(bytes(other.buf[:2]).decode())
other.close(); block.close(); block.unlink()
""",
    "threads": """
import concurrent.futures
with concurrent.futures.ThreadPoolExecutor(20) as pool:
    print('OK' if sum(pool.map(int, range(100))) == 4950 else 'no')
""",
    "subprocesses": """
import asyncio
async def main():
    made = [await asyncio.create_subprocess_exec('cat', stdin=-1, stdout=-1) for _ in range(10)]
    out = [(await process.communicate(b'OK'))[0] for process in made]
    print('OK' if out == [b'OK'] * 10 else out)
asyncio.run(main())
""",
    "sqlite": """
import sqlite3
one, two = sqlite3.connect('db'), sqlite3.connect('db')
one.execute('PRAGMA journal_mode=WAL'); one.execute('CREATE TABLE IF NOT EXISTS t (x)')
one.execute('INSERT INTO t VALUES (1)'); one.commit()
print('OK' if two.execute('SELECT count(*) FROM t').fetchone()[0] else 'no')
""",
    "locks": """
import fcntl
with open('locked', 'w') as one:
    fcntl.lockf(one, fcntl.LOCK_EX)
    if not os.fork():
        with open('locked', 'w') as two:
            free = attempt(lambda: fcntl.lockf(two, fcntl.LOCK_EX | fcntl.LOCK_NB))
            os._exit(1 if free == 'OK' else 0)
    print('OK' if os.wait()[1] == 0 else 'no')
""",
    "inotify": """
fd = libc.inotify_init1(0)
libc.inotify_add_watch(fd, b'.', 0x100)
open('watched', 'w').close()
print('OK' if b'watched' in os.read(fd, 4096) else 'no')
os.unlink('watched')
""",
    "unix sockets": """
import array
one, two = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
socket.send_fds(one, [b'x'], [0, 1])
print('OK' if len(socket.recv_fds(two, 10, 2)[1]) == 2 else 'no')
server = socket.socket(socket.AF_UNIX); server.bind('\\0here'); server.listen()
socket.socket(socket.AF_UNIX).connect('\\0here')
""",
    "internet sockets": """
for family, address in ((socket.AF_INET, '127.0.0.1'), (socket.AF_INET6, '::1')):
    server = socket.create_server((address, 0), family=family)
    client = socket.create_connection(server.getsockname()[:2])
    client.sendall(b'x')
    assert server.accept()[0].recv(1) == b'x'
    with socket.socket(family, socket.SOCK_DGRAM) as s:
        s.bind((address, 0)); s.sendto(b'x', s.getsockname()); assert s.recv(1) == b'x'
print('OK')
""",
    "waiting": """
import select, signal, threading, time
signal.signal(signal.SIGALRM, lambda *_: None); signal.setitimer(signal.ITIMER_REAL, 0.01)
signal.pause()
poll, event = select.epoll(), os.eventfd(0)
poll.register(event, select.EPOLLIN)
threading.Timer(0.01, os.eventfd_write, (event, 1)).start()
print('OK' if poll.poll(10) else 'no')
""",
    "files": """
import mmap, tempfile
with tempfile.TemporaryFile() as file:
    file.truncate(1 << 20)
    with mmap.mmap(file.fileno(), 0) as view:
        view[:2] = b'OK'
    os.posix_fallocate(file.fileno(), 0, 1 << 20)
    print(os.pread(file.fileno(), 2, 0).decode())
os.close(os.open('.', os.O_TMPFILE | os.O_RDWR))
""",
    "machine code": """
import mmap
page = mmap.mmap(-1, 4096, prot=7)
page.write(bytes.fromhex('b82a000000c3' if os.uname().machine == 'x86_64' else '40058052c0035fd6'))
address = ctypes.addressof(ctypes.c_char.from_buffer(page))
print('OK' if ctypes.CFUNCTYPE(ctypes.c_int)(address)() == 42 else 'no')
""",
    "tracing": """
number = {'x86_64': 101, 'aarch64': 117}[os.uname().machine]
child = os.fork()
if not child:
    import time; time.sleep(60)
print(call(number, 16, child, 0, 0))
os.kill(child, 9)
""",
    "terminals": """
import pty
pid, leader = pty.fork()
if not pid:
    os.execvp('sh', ['sh', '-c', 'echo OK'])
print(os.read(leader, 100).decode().strip())
""",
}


@pytest.mark.parametrize("name", PYTHON)
def test_programs_have_what_they_need(boxes: dict[bool, Box], name: str) -> None:
    """Processes, threads, locks, files, sockets, signals, terminals and code made on the fly."""
    place = f"/workspace/programs/{name.replace(' ', '-')}"
    boxes[False].sh(f"mkdir -p {place}")
    assert boxes[False].python(f"os.chdir('{place}')\n{PYTHON[name]}").splitlines()[-1] == "OK"


def test_a_server_lives_between_commands(boxes: dict[bool, Box]) -> None:
    """What one command left running answers the next, and writes where that one looks."""
    box = boxes[False]
    box.sh(
        "mkdir -p site; echo served >site/page; cd site; echo >log;"
        "setsid python3 -u -m http.server 8555 --bind 127.0.0.1 >log 2>&1 & exit 0"
    )
    code = """
import time, urllib.request
for _ in range(500):
    try:
        print(urllib.request.urlopen('http://127.0.0.1:8555/page').read().decode())
        break
    except OSError:
        time.sleep(0.02)
"""
    assert box.python(code).strip() == "served"
    assert "GET /page" in box.sh("cat site/log")


INFO = "probe_package-1.0.dist-info"
WHEEL = {
    "probe_package/__init__.py": "print('imported')\n",
    f"{INFO}/METADATA": "Metadata-Version: 2.1\nName: probe-package\nVersion: 1.0\n",
    f"{INFO}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    f"{INFO}/RECORD": "",
}


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves files, and says nothing."""

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Say nothing."""


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Generator[int]:
    """Serve a package index on the host's loopback and return its port."""
    root = tmp_path_factory.mktemp("index")
    project = root / "simple" / "probe-package"
    project.mkdir(parents=True)
    name = "probe_package-1.0-py3-none-any.whl"
    with zipfile.ZipFile(project / name, "w") as wheel:
        for path, text in WHEEL.items():
            wheel.writestr(path, text)
    (project / "index.html").write_text(f'<a href="{name}">{name}</a>')
    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), partial(Quiet, directory=str(root))
    ) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


def test_pip_installs_from_an_allowed_index(machine: Machine, index: int) -> None:
    """A virtual environment gets a package from a listed index."""
    box = machine.box(network=({"host": "localhost", "port": index, "trusted": True},))
    options = f"-q --disable-pip-version-check --index-url http://localhost:{index}/simple"
    script = f"python3 -m venv v && v/bin/pip install {options} probe-package"
    assert box.sh(f"{script} && v/bin/python -c 'import probe_package'") == "imported"
    box.destroy()


def test_the_index_is_not_there_without_leave(boxes: dict[bool, Box], index: int) -> None:
    """The same box without a list does not reach it."""
    code = f"print(attempt(lambda: socket.create_connection(('127.0.0.1', {index}))))"
    assert boxes[False].python(code) == "ECONNREFUSED"


def test_private_places_can_be_written(boxes: dict[bool, Box]) -> None:
    """Home, temporary and shared places can be written, and hold what was written."""
    for place in ("/workspace", "/tmp", "/home/user", "/dev/shm", "$HOME", "$TMPDIR"):
        assert boxes[False].sh(f"echo kept >{place}/kept && cat {place}/kept") == "kept"
