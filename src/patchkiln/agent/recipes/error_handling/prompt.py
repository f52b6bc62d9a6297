"""Which prompts ask for better error handling, and for nothing else.

A prompt is recognised when all of these hold; anything in doubt is left to a language model.

1. It names the topic: "error handling", "exception handling", "handle errors", "errors are
   handled".
2. What stands before the topic is made of asking words alone: "please", "add", "better", "the"
   (`_ASKING`). So "remove error handling" and "test the error handling" are not recognised, and
   neither is "add a health endpoint and error handling".
3. It asks: with an adjective or a verb such as "add", "improve", "better", "robust" anywhere, with
   "handle" as an order, or with nothing but the topic.
4. What stands behind the topic is at most `MAX_WORDS` words and names no other work: no second verb
   or thing ("and a ...", "and tests"), no condition, reason or "not", no way of doing it ("by
   retrying"), no language but Python, no kind of failure of its own ("for invalid input").

Files and directories that it names ("in app/client.py") are the only ones that are changed.
"""

import re

from patchkiln.agent.recipes.recipe import Request

MAX_WORDS = 25
_FAILURES = r"(?:errors?|exceptions?|failures?)(?:(?: and| or)? (?:errors?|exceptions?|failures?))?"
_TOPIC = re.compile(
    rf"\b{_FAILURES} handling\b"
    rf"|\b(?P<order>handl(?:e|es|ing)(?: (?:the|all|our|any|possible|unexpected))* {_FAILURES})\b"
    rf"|\b{_FAILURES} (?:are|is|get|gets|to be|be)(?: \w+ly)? handled\b"
)


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_VERBS = _words("""
    add adding enhance enhancing fix fixing harden implement implementing improve improving include
    increase introduce introducing provide put strengthen
""")
_QUALITIES = _words("""
    better careful clean cleaner comprehensive consistent consistently correct correctly enhanced
    good graceful gracefully improved improvement improvements missing more proper properly
    reliable robust robustly robustness safer safely sensible solid stronger well
""")
_ASKING = (
    _VERBS
    | _QUALITIES
    | _words("""
    's a all and api app application backend basic can client code codebase could current ensure
    existing everywhere for function functions general hello hey hi i in is it kindly lacks let's
    library like little make methods module much my need needs of our overall package please
    project python quality repo repository server service should so some sure task that the this
    throughout to us want we with would you your
""")
)
_SOMETHING_ELSE = _VERBS | _words("""
    no not never none without don't dont doesn't stop avoid skip ignore less except unless instead
    only just remove delete drop strip disable revert undo reduce simplify explain describe
    document review audit analyse analyze check find show tell summarise summarize compare suggest
    propose why what how where which when who if because until while by using via use replace
    rename rewrite refactor restructure move extract convert migrate port translate upgrade update
    change switch split merge centralise centralize write create build design generate test tests
    testing unittest unittests coverage mock retry retries retrying backoff circuit breaker
    fallback cache caching queue class classes hierarchy type types typed hints annotations
    decorator decorators middleware validation validate sanitize sanitise authentication
    authorization login feature features page pages ui form button screen message messages status
    400 404 422 500 response responses dialog toast popup alert alerts email sentry metrics
    monitoring dashboard tracing readme docs documentation changelog docstring docstrings docker
    dockerfile ci workflow schema performance faster bug bugs broken crash crashes crashing wrong
    invalid empty null zero edge case cases input inputs missing raise raises return returns
    javascript js typescript ts node react vue angular svelte go golang rust java kotlin swift c c++
    c# csharp php ruby perl shell bash html css sql frontend
""")
# After "and", what the recipe does anyway; anything else is one more thing to do.
_COMPANION = (
    r"(?:(?:better|proper|more|good) )?"
    r"(?:logging|logs?|please|resilience|robustness|thanks?|timeouts?)\b"
)
_ONE_MORE_THING = re.compile(
    rf"^(?:,| and| plus| with) (?!{_COMPANION})"
    r"|(?:\band|\balso|\bplus|\bthen|,) (?:an?|some|new)\b"
)
_TOKEN = re.compile(r"[\w./-]*[\w/]")
_POLITE = frozenset({"please", "thank", "thanks", "you"})
_NO_PATH = re.compile(r"errors?|exceptions?|failures?|and|or|try|except|catch|finally|raise")
_WORD = re.compile(r"[a-z0-9'+#]+")


def recognise(prompt: str) -> Request | None:
    """Return what the prompt asks of this recipe, None where it asks for anything else."""
    paths = dict.fromkeys(token for token in _TOKEN.findall(prompt) if _is_path(token))
    text = prompt
    for path in paths:
        text = text.replace(path, " ")
    text = _plain(text)
    topic = _TOPIC.search(text)
    if topic is None or not _asks(text, topic) or _wants_more(text[topic.end() :]):
        return None
    return Request(paths=tuple(path.removeprefix("./") for path in paths))


def _plain(text: str) -> str:
    """Return the words in small letters, with the punctuation that matters."""
    text = text.lower().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
    return " ".join(re.sub(r"[-_`\"]", " ", text).replace("/", " or ").split())


def _is_path(token: str) -> bool:
    parts = token.lower().strip("/").split("/")
    named = "/" in token and not all(map(_NO_PATH.fullmatch, parts))
    return named or token.endswith(".py")


def _asks(text: str, topic: re.Match[str]) -> bool:
    before = _WORD.findall(text[: topic.start()])
    after = _WORD.findall(text[topic.end() :])
    if not _ASKING.issuperset(before):
        return False
    wish = not (_VERBS | _QUALITIES).isdisjoint(before) or not _QUALITIES.isdisjoint(after)
    return wish or bool(topic["order"]) or _POLITE.issuperset([*before, *after])


def _wants_more(behind: str) -> bool:
    rest, *sentences = re.split(r"[.;:!?]", behind)
    words = _WORD.findall(rest)
    return (
        len(words) > MAX_WORDS
        or not _SOMETHING_ELSE.isdisjoint(words)
        or _ONE_MORE_THING.search(rest) is not None
        or not (_ASKING | _POLITE).issuperset(_WORD.findall(" ".join(sentences)))
    )
