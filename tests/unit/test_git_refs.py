"""What a ref means, read from ls-remote's answer."""

import pytest

from patchkiln.repositories.refs import choose, parse_advertised, patterns

A, B, C = "a" * 40, "b" * 40, "c" * 40


def advertised(*lines: str) -> str:
    """Join lines as git prints them."""
    return "".join(f"{line}\n" for line in lines)


def test_head_is_the_remotes_default_branch() -> None:
    """Without a ref the remote's HEAD is meant, and its branch's name is kept."""
    found = parse_advertised(advertised("ref: refs/heads/trunk\tHEAD", f"{A}\tHEAD"))
    wanted = choose(found, None)
    assert wanted is not None
    assert (wanted.object_id, wanted.commit, wanted.branch) == (A, A, "trunk")


def test_branch_comes_before_tag() -> None:
    """A name that is both a branch and a tag means the branch, as in git clone."""
    found = parse_advertised(advertised(f"{A}\trefs/heads/v1", f"{B}\trefs/tags/v1"))
    wanted = choose(found, "v1")
    assert wanted is not None
    assert (wanted.commit, wanted.branch) == (A, "v1")


def test_annotated_tag_is_fetched_as_tag_and_known_by_its_commit() -> None:
    """Of an annotated tag the tag object is fetched, while the peeled commit is known already."""
    found = parse_advertised(advertised(f"{A}\trefs/tags/v1", f"{B}\trefs/tags/v1^{{}}"))
    wanted = choose(found, "v1")
    assert wanted is not None
    assert (wanted.object_id, wanted.commit) == (A, B)


def test_plain_tag_is_not_surely_a_commit() -> None:
    """A lightweight tag may name a tree, so that its commit is known only after the fetch."""
    wanted = choose(parse_advertised(advertised(f"{A}\trefs/tags/v1")), "v1")
    assert wanted is not None
    assert wanted.commit is None


def test_full_ref_name_is_understood() -> None:
    """A full ref name such as a pull request's is looked up as it is."""
    found = parse_advertised(advertised(f"{A}\trefs/pull/7/head"))
    wanted = choose(found, "refs/pull/7/head")
    assert wanted is not None
    assert wanted.branch == "pull/7/head"
    assert "refs/pull/7/head" in patterns("refs/pull/7/head")


def test_commit_id_needs_no_name() -> None:
    """A full commit id is fetched by itself, on the remote's default branch."""
    found = parse_advertised(advertised("ref: refs/heads/trunk\tHEAD", f"{A}\tHEAD"))
    wanted = choose(found, C)
    assert wanted is not None
    assert (wanted.object_id, wanted.commit, wanted.branch) == (C, None, "trunk")


def test_unknown_ref_is_none() -> None:
    """A name that the remote does not have, even as the end of another, means nothing."""
    found = parse_advertised(advertised(f"{A}\trefs/heads/other/v1", f"{A}\tHEAD"))
    assert choose(found, "v1") is None


@pytest.mark.parametrize(
    "target", ["refs/heads/../../etc", "refs/heads/-x", "refs/heads/a..b", "refs/heads/\x1b[31m"]
)
def test_hostile_default_branch_gets_an_ordinary_name(target: str) -> None:
    """A default branch whose name could leave its directory is called main."""
    found = parse_advertised(advertised(f"ref: {target}\tHEAD", f"{A}\tHEAD"))
    assert found.default_branch == "main"


def test_noise_is_passed_over() -> None:
    """Lines that are none of ls-remote's own are ignored."""
    found = parse_advertised(advertised("warning: x", "zz\tHEAD", f"{A} HEAD", f"{A}\tHEAD"))
    assert found.ids == {"HEAD": A}
