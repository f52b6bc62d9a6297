"""The rule http-timeout: which calls can wait for ever, and where the argument is put."""

import pytest

from patchkiln.agent.recipes.rewrite import rewrite
from tests.unit.recipes.rewriting import TIMEOUT, after, rewrite_text, unchanged


@pytest.mark.parametrize(
    ("imports", "call"),
    [
        ("import requests", "requests.get(url{})"),
        ("import requests", "requests.post(url, json=x{})"),
        ("import requests", "requests.put(url{})"),
        ("import requests", "requests.delete(url{})"),
        ("import requests", "requests.head(url{})"),
        ("import requests", "requests.patch(url{})"),
        ("import requests", "requests.options(url{})"),
        ("import requests", "requests.request('GET', url{})"),
        ("import requests", "requests.api.get(url{})"),
        ("import requests as r", "r.get(url{})"),
        ("from requests import get", "get(url{})"),
        ("from requests import get as fetch", "fetch(url{})"),
        ("from requests import api", "api.get(url{})"),
        ("import urllib.request", "urllib.request.urlopen(url{})"),
        ("import urllib.request", "urllib.request.urlopen(url, data{})"),
        ("import urllib.request as u", "u.urlopen(url{})"),
        ("from urllib import request", "request.urlopen(url{})"),
        ("from urllib.request import urlopen", "urlopen(url{})"),
        ("from urllib.request import urlopen as o", "o(url, data=x{})"),
        ("import requests", "requests.Session().get(url{})"),
        ("import requests", "requests.session().post(url{})"),
        ("from requests import Session", "Session().get(url{})"),
        ("import requests\ns = requests.Session()", "s.get(url{})"),
        ("import requests\nwith requests.Session() as s: pass", "s.put(url{})"),
        (
            "try:\n    import requests\nexcept ImportError:\n    requests = None",
            "requests.get(url{})",
        ),
        ("if x:\n    import requests\nelse:\n    import requests", "requests.get(url{})"),
    ],
)
def test_a_call_that_can_wait_for_ever_gets_a_limit(imports: str, call: str) -> None:
    """Names are followed through imports, and sessions through plain assignments."""
    before = f"{imports}\nanswer = {call.format('')}\n"
    assert after(before, TIMEOUT) == f"{imports}\nanswer = {call.format(', timeout=30')}\n"


@pytest.mark.parametrize(
    "text",
    [
        "import requests\nrequests.get(url, timeout=5)",
        "import requests\nrequests.get(url, timeout=None)",
        "import requests\nrequests.get(url, **options)",
        "import requests\nrequests.get(*arguments)",
        "import requests\nrequests.get(url, stream=True)",
        "import requests\nrequests.get()",
        "import requests\nrequests.codes.get(url)",
        "import requests\nrequests.Request('GET', url)",
        "import requests\nrequests.Session()",
        "import requests\nfetch = requests.get",
        "import requests\nrequests.get = patched\nrequests.get(url)",
        "import requests\nrequests.get(url)  # noqa: S113",
        "import requests\nrequests.get(url)  # nosec B113",
        "import requests\nrequests = other\nrequests.get(url)",
        "import requests\ndef f(requests):\n    requests.get(url)",
        "import requests\nimport httpx as requests\nrequests.get(url)",
        "from app import requests\nrequests.get(url)",
        "from . import requests\nrequests.get(url)",
        "from requests import get\ndef get(url): pass\nget(url)",
        "requests.get(url)",
        "cache.get(url)",
        "import httpx\nhttpx.get(url)",
        "from urllib.request import urlopen\nurlopen(url, data, 5)",
        "from urllib.request import urlopen\nurlopen(url, timeout=5)",
        "from urllib.request import urlopen\nurlopen(x for x in y)",
        (
            "try:\n    from urllib.request import urlopen\nexcept ImportError:\n"
            "    from urllib2 import urlopen\nurlopen(url)"
        ),
        (
            "import socket\nfrom urllib.request import urlopen\n"
            "socket.setdefaulttimeout(5)\nurlopen(url)"
        ),
        "import urllib.request\nurllib.request.urlretrieve(url)",
        "import requests\ns = make()\ns.get(url)",
        "import requests\ns = requests.Session()\ns = make()\ns.get(url)",
        "import requests\ns = requests.Session()\ndef f(s):\n    s.get(url)",
        "import requests\ns = requests.Session()\ns.mount('https://', adapter)\ns.get(url)",
        "import requests\ns = requests.Session()\ns.request = patched\ns.get(url)",
        "import requests\ns = requests.Session()\ns.request('GET', url)",
        "import requests\ns = requests.Session()\ns.cookies.get(url)",
        "import requests\nself.session = requests.Session()\nself.session.get(url)",
        "import requests\nx = 1; requests.get(url)",
    ],
)
def test_limited_hidden_streamed_and_unknown_calls_are_left_alone(text: str) -> None:
    """Whatever may have a limit, may not need one, or may be something else stays."""
    assert unchanged(f"{text}\n", TIMEOUT)


def test_a_mounted_application_does_not_stop_the_rule() -> None:
    """``mount`` counts on the session alone; web frameworks use the word, too."""
    before = "import requests\napp.mount('/static', files)\nrequests.get(url)\n"
    assert "requests.get(url, timeout=30)" in after(before, TIMEOUT)


@pytest.mark.parametrize(
    ("before", "expected"),
    [
        ("(url)", "(url, timeout=30)"),
        ("( url )", "( url, timeout=30 )"),
        ("(url,)", "(url, timeout=30,)"),
        ("(url, )", "(url, timeout=30, )"),
        ("(\n    url\n)", "(\n    url,\n    timeout=30\n)"),
        ("(\n    url,\n)", "(\n    url,\n    timeout=30,\n)"),
        ("(\n    url,\n    json=x,\n)", "(\n    url,\n    json=x,\n    timeout=30,\n)"),
        ("(url,\n    json=x)", "(url,\n    json=x,\n    timeout=30)"),
        ("(\n    url, json=x,\n)", "(\n    url, json=x, timeout=30,\n)"),
        (
            "(\n    url,\n    json=x,  # note\n)",
            "(\n    url,\n    json=x,  # note\n    timeout=30,\n)",
        ),
        (
            "(\n    url,  # a\n    json=x  # b\n)",
            "(\n    url,  # a\n    json=x,  # b\n    timeout=30\n)",
        ),
        (
            "(\n    url,\n    # about x\n    json=x,\n    # the end\n)",
            "(\n    url,\n    # about x\n    json=x,\n    # the end\n    timeout=30,\n)",
        ),
        ("(url, json=x  # note\n)", "(url, json=x,  # note\ntimeout=30\n)"),
        ("(f'{url}')", "(f'{url}', timeout=30)"),
        ("(url).json()", "(url, timeout=30).json()"),
        ("(url)[0](1)", "(url, timeout=30)[0](1)"),
    ],
)
def test_the_argument_stands_where_the_others_do(before: str, expected: str) -> None:
    """On a line of its own, before a trailing comma, and comments stay with their arguments."""
    head = "import requests\nrequests.get"
    assert after(f"{head}{before}\n", TIMEOUT) == f"{head}{expected}\n"


@pytest.mark.parametrize(
    ("before", "expected"),
    [
        (
            "if x:\n    pass\nelif requests.get(url):\n    pass\n",
            "if x:\n    pass\nelif requests.get(url, timeout=30):\n    pass\n",
        ),
        (
            "async def f():\n    return [await g(requests.get(u)) for u in x]\n",
            "async def f():\n    return [await g(requests.get(u, timeout=30)) for u in x]\n",
        ),
        (
            "def f():\n    x = 1; requests.get(url)\n",
            "def f():\n    x = 1; requests.get(url, timeout=30)\n",
        ),
        (
            "requests.get(requests.get(url).url)\n",
            "requests.get(requests.get(url, timeout=30).url, timeout=30)\n",
        ),
        (
            "class A:\n  x = requests.get(url)  # é\n  y = 'é', requests.get(url)\n",
            (
                "class A:\n  x = requests.get(url, timeout=30)  # é\n"
                "  y = 'é', requests.get(url, timeout=30)\n"
            ),
        ),
        ("if x: requests.get(url)\n", "if x: requests.get(url, timeout=30)\n"),
        (
            "f = lambda u: requests.get(u)\n",
            "f = lambda u: requests.get(u, timeout=30)\n",
        ),
    ],
)
def test_calls_are_found_wherever_they_stand(before: str, expected: str) -> None:
    """In conditions, comprehensions, other calls, and beside other statements."""
    head = "import requests\n"
    assert after(head + before, TIMEOUT) == head + expected


def test_a_local_module_of_the_same_name_is_not_the_library() -> None:
    """A requests.py beside a script is what the script imports."""
    text = b"import requests\nrequests.get(url)\n"
    assert rewrite(text, [TIMEOUT], shadowed=frozenset({"requests"})).data == text


def test_lines_are_told_as_they_were() -> None:
    """A line that one edit adds does not move the next one."""
    text = "import requests\nrequests.get(\n    url,\n)\nrequests.get(url)\n"
    (applied,) = rewrite_text(text, TIMEOUT).applied
    assert applied.lines == (2, 5)
