"""Which repository URLs and refs are let through, and how they are spelled to git and the cache."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from patchkiln.domain.network import NetworkPolicy
from patchkiln.domain.repository import check_ref, is_commit_id, parse_repository_url
from patchkiln.errors import ForbiddenUrl, InvalidRequest, RepositoryNotFound
from patchkiln.repositories.addresses import cache_key, git_url, mounts, network, shown

LOCAL = ("http://127.0.0.1:9000/", "file:///srv/repos/")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("https://github.com/owner/name.git", "name"),
        ("https://github.com/owner/name", "name"),
        ("https://github.com/owner/name/", "name"),
        ("https://git.example.org/a/b/c/deep.name.git", "deep.name"),
        ("https://example.org/sp%20ace.git", "sp ace"),
    ],
)
def test_public_https_url_is_allowed(text: str, name: str) -> None:
    """An https URL of a public host needs no setting; its last segment is its name."""
    url = parse_repository_url(text)
    assert (url.name, url.port, url.trusted) == (name, 443, False)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("-uhttps://example.org/x", "begin with '-'"),
        ("--upload-pack=touch /tmp/x", "URL"),
        ("http://example.org/o/n", "scheme 'http'"),
        ("git://example.org/o/n", "scheme 'git'"),
        ("ssh://example.org/o/n", "scheme 'ssh'"),
        ("file:///etc", "scheme 'file'"),
        ("ext::sh -c touch% /tmp/x", "URL"),
        ("ext::sh", "URL"),
        ("git@github.com:owner/name.git", "URL"),
        ("https://user:secret@example.org/o/n", "Credentials"),
        ("https://token@example.org/o/n", "Credentials"),
        ("https://example.org:8443/o/n", "Ports"),
        ("https://127.0.0.1/o/n", "loopback"),
        ("https://10.1.2.3/o/n", "private"),
        ("https://169.254.169.254/latest/meta", "metadata"),
        ("https://[::1]/o/n", "loopback"),
        ("https://[::ffff:10.0.0.1]/o/n", "private"),
        ("https://8.8.8.8/o/n", "address instead of a name"),
        ("https://2130706433/o/n", "local name"),
        ("https://0x7f.1/o/n", "disguise"),
        ("https://127.1/o/n", "disguise"),
        ("https://localhost/o/n", "local name"),
        ("https://git.internal/o/n", "local name"),
        ("https://intranet/o/n", "local name"),
        ("https://example.org/", "no repository"),
        ("https://example.org/o/n?ref=x", "query or a fragment"),
        ("https://example.org/o/n#readme", "query or a fragment"),
        ("https://example.org/o/%1b%5b31mred%0aline2", "cannot be printed"),
        ("https://example.org/%00/n", "cannot be printed"),
        ("https://example.org/o/n%e2%80%ae", "cannot be printed"),
        ("https://example.org/o/n\r\nHost: x", "URL"),
        ("https://exa mple.org/o/n", "URL"),
        ("", "URL"),
        ("https://example.org/" + "a" * 3000, "URL"),
        ("https://example.org:99999/o/n", "URL"),
        ("https://-oProxyCommand=x/o/n", "no valid name"),
        ("https://b\u00fccher.example/o/n", "no valid name"),
    ],
)
def test_forbidden_url_names_its_rule(text: str, rule: str) -> None:
    """What the policy forbids is refused with the rule in the message and the field's name."""
    with pytest.raises(InvalidRequest, match=rule) as caught:
        parse_repository_url(text)
    assert caught.value.field == "repoUrl"


@pytest.mark.parametrize(
    ("text", "allowed"),
    [
        ("http://127.0.0.1:9000/owner/name", True),
        ("http://127.0.0.1:9000/name.git", True),
        ("http://127.0.0.1:90001/name.git", False),
        ("http://127.0.0.1:9000.evil.example/name", False),
        ("http://127.0.0.1:9000/../name", False),
        ("file:///srv/repos/a.git", True),
        ("file:///srv/repos/../../etc", False),
        ("file:///srv/repos/%2e%2e/%2e%2e/etc", False),
        ("file:///srv/repos-private/a.git", False),
    ],
)
def test_operators_prefix_is_matched_by_whole_segments(text: str, allowed: bool) -> None:  # noqa: FBT001 - a parameter of the table
    """An allowed prefix lets exactly what lies below it through, and never across '..'."""
    if allowed:
        assert parse_repository_url(text, allow=LOCAL).trusted
    else:
        with pytest.raises(InvalidRequest):
            parse_repository_url(text, allow=LOCAL)


def test_allowed_prefix_does_not_allow_credentials() -> None:
    """Even below an allowed prefix a URL with credentials is refused."""
    with pytest.raises(ForbiddenUrl, match="Credentials"):
        parse_repository_url(
            "http://u:p@127.0.0.1:9000/name", allow=("http://u:p@127.0.0.1:9000/",)
        )


@pytest.mark.parametrize(
    "ref", ["main", "v1.2.3", "feature/x", "refs/pull/1/head", "a+b", "a" * 40]
)
def test_ordinary_refs_pass(ref: str) -> None:
    """Branches, tags, full ref names and commit ids are accepted unchanged."""
    assert check_ref(ref) == ref


@pytest.mark.parametrize(
    "ref",
    [
        *("", "-x", "--upload-pack=x", "a..b", "a b", "a\nb", "a~1", "a^", "a:b", "@{-1}", "a/"),
        *("a//b", "a/.b", "a.lock", "a.", ".a", "a?", "a*", "a[", "a\\b", "a" * 256),
    ],
)
def test_refs_with_a_second_meaning_are_refused(ref: str) -> None:
    """What git could take for an option, a range or another commit is refused."""
    with pytest.raises(InvalidRequest):
        check_ref(ref)


@given(st.text(max_size=60))
def test_any_text_is_judged(text: str) -> None:
    """Whatever a caller sends, the answer is a URL or an error of ours, never another exception."""
    try:
        url = parse_repository_url(text)
    except InvalidRequest:
        return
    assert url.scheme == "https"


def test_only_full_ids_are_commits() -> None:
    """A commit id is 40 or 64 lower-case hexadecimal digits, nothing shorter."""
    assert is_commit_id("a" * 40)
    assert is_commit_id("0" * 64)
    assert not is_commit_id("a" * 39)
    assert not is_commit_id("A" * 40)


def test_spellings_of_one_repository_share_a_cache_entry() -> None:
    """With or without '.git', a last slash, the default port or capitals in the host: one entry."""
    spellings = [
        "https://example.org/o/n",
        "https://example.org/o/n.git",
        "https://example.org/o/n/",
        "https://example.org/o/n.git/",
        "https://EXAMPLE.org:443/o/n",
    ]
    assert len({cache_key(parse_repository_url(text)) for text in spellings}) == 1
    others = ["https://example.org/o/N", "https://example.org/o/n2", "https://example.net/o/n"]
    keys = {cache_key(parse_repository_url(text)) for text in (*others, spellings[0])}
    assert len(keys) == 4


def test_git_is_given_the_checked_parts() -> None:
    """Git's URL is rebuilt from what was checked, so that it cannot mean another host."""
    assert (
        git_url(parse_repository_url("https://EXAMPLE.org.:443/o/n")) == "https://example.org/o/n"
    )
    local = parse_repository_url("http://127.0.0.1:9000/n.git", allow=LOCAL)
    assert git_url(local) == "http://127.0.0.1:9000/n.git"
    (target,) = network(local).rules
    assert (target.host, target.port, target.trusted) == ("127.0.0.1", 9000, True)


def test_an_address_may_reach_itself_however_it_is_spelled() -> None:
    """The rule of the fetch has the one form that the network compares."""
    url = parse_repository_url(
        "https://[2001:DB8:0::0001]:8443/a", allow=("https://[2001:DB8:0::0001]:8443",)
    )
    assert network(url).rule_for("2001:db8::1", 8443) is not None


def test_local_repository_is_mounted_and_its_path_is_not_told(tmp_path: Path) -> None:
    """A file URL becomes a mount without network; messages name the repository alone."""
    (tmp_path / "sp ace" / ".git").mkdir(parents=True)
    url = parse_repository_url(f"file://{tmp_path}/sp%20ace", allow=(f"file://{tmp_path}",))
    (mount,) = mounts(url)
    assert (mount.source, mount.writable, network(url)) == (
        tmp_path / "sp ace",
        False,
        NetworkPolicy(),
    )
    assert str(tmp_path) not in shown(url) + git_url(url)


def test_directory_without_git_is_not_found(tmp_path: Path) -> None:
    """A file URL that names no git directory says so, without the path."""
    url = parse_repository_url(f"file://{tmp_path}/x", allow=(f"file://{tmp_path}",))
    with pytest.raises(RepositoryNotFound) as caught:
        mounts(url)
    assert str(tmp_path) not in caught.value.message
