"""Settings: read once, frozen, refused where they are unsafe, silent about secrets."""

import pytest

from patchkiln.errors import SettingsError
from patchkiln.settings import load_settings, setting_names


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget the machine's own settings."""
    for name in setting_names():
        monkeypatch.delenv(name, raising=False)


def test_nothing_has_to_be_set() -> None:
    """The defaults serve on loopback, keep everything below the home, and need no key."""
    settings = load_settings()
    assert (settings.host, settings.port) == ("127.0.0.1", 8000)
    assert settings.database_path == settings.data_dir / "patchkiln.db"
    assert not settings.public
    assert settings.model is None


def test_lists_and_pairs_are_separated_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blanks around the parts do not count, and a key may hold a colon."""
    monkeypatch.setenv("PATCHKILN_GIT_ALLOW", "http://127.0.0.1:9000/, file:///srv/repos/")
    monkeypatch.setenv("PATCHKILN_API_KEYS", "ci:abc:def, me:xyz")
    monkeypatch.setenv("PATCHKILN_NETWORK_ALLOW", "10.1.2.3:5000, fd00::1")
    settings = load_settings()
    assert [str(entry.address) for entry in settings.network_allow] == ["10.1.2.3", "fd00::1"]
    assert [entry.port for entry in settings.network_allow] == [5000, None]
    assert settings.git_allow == ("http://127.0.0.1:9000/", "file:///srv/repos/")
    keys = {name: key.get_secret_value() for name, key in settings.api_keys.items()}
    assert keys == {"ci": "abc:def", "me": "xyz"}


def test_an_empty_setting_counts_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compose files and shells write empty values for what is not set."""
    monkeypatch.setenv("PATCHKILN_MODEL", "")
    assert load_settings().model is None


@pytest.mark.parametrize("name", ["PATCHKILN_SERVER", "PATCHKILN_KEY"])
def test_the_names_of_the_command_line_are_known(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """A shell set up for the client starts the server as well."""
    monkeypatch.setenv(name, "x")
    load_settings()


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("PATCHKILN_DATADIR", "/x", "Did you mean PATCHKILN_DATA_DIR?"),
        ("PATCHKILN_HOST", "192.0.2.1", "PATCHKILN_API_KEYS=name:key, or PATCHKILN_OPEN=1"),
        ("PATCHKILN_PORT", "70000", "PATCHKILN_PORT"),
        ("PATCHKILN_NETWORK_ALLOW", "git.corp", "no IP address"),
        ("PATCHKILN_SANDBOX", "e2b", "this version serves local, container"),
        ("PATCHKILN_DATABASE_URL", "mysql://u:hush@h/db", "sqlite:///PATH or postgresql://"),
        ("PATCHKILN_API_KEYS", "hush", "name:key"),
        ("PATCHKILN_API_KEYS", "a:hush,a:hush2", "twice"),
        ("PATCHKILN_MAX_MINUTES", "0", "PATCHKILN_MAX_MINUTES"),
        ("PATCHKILN_MODEL", "nonsense", "provider:name"),
        ("LOG_LEVEL", "verbose", "one of DEBUG, INFO"),
    ],
)
def test_what_is_wrong_or_unsafe_is_refused_with_the_fix(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, told: str
) -> None:
    """The message names the setting and the way out, and shows no value that may be secret."""
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert told in caught.value.message
    assert "hush" not in caught.value.message


@pytest.mark.parametrize(
    ("host", "public"),
    [("localhost", False), ("127.0.0.5", False), ("::1", False), ("0.0.0.0", True), ("h", True)],  # noqa: S104 - judged, not bound
)
def test_keys_or_an_open_word_let_a_public_address_start(
    monkeypatch: pytest.MonkeyPatch, host: str, *, public: bool
) -> None:
    """Who says that it is meant may serve without keys."""
    monkeypatch.setenv("PATCHKILN_HOST", host)
    monkeypatch.setenv("PATCHKILN_OPEN", "1")
    assert load_settings().public is public


def test_vendor_keys_are_kept_as_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """A settings object that is printed shows none of them."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-hush")
    settings = load_settings()
    assert settings.model_keys["OPENAI_API_KEY"] == "sk-hush"
    assert "hush" not in repr(settings)


@pytest.mark.parametrize("scheme", ["postgresql", "postgres"])
def test_a_postgres_url_is_kept_as_a_secret(monkeypatch: pytest.MonkeyPatch, scheme: str) -> None:
    """Either spelling of its scheme selects Postgres; printed settings show no password."""
    url = f"{scheme}://u:hush@h/db"
    monkeypatch.setenv("PATCHKILN_DATABASE_URL", url)
    settings = load_settings()
    assert settings.postgres_url == url
    assert "hush" not in repr(settings)


def test_a_sqlite_url_names_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three slashes before a relative path, four before an absolute one."""
    monkeypatch.setenv("PATCHKILN_DATABASE_URL", "sqlite:////srv/runs.db")
    settings = load_settings()
    assert settings.postgres_url is None
    assert str(settings.database_path) == "/srv/runs.db"
