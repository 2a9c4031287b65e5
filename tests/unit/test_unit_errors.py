"""The tree of errors is what its picture says, and every error is of use to a caller."""

from __future__ import annotations

import re

import pytest

from modelcask import errors

DRAWN = re.compile(r"^ {4}(?P<branch>[│ ]*[├└]── |)(?P<name>[A-Z]\w+Error)\b(?: +(?P<code>\d+) )?(?P<rest>.*)$")


def drawn() -> list[tuple[int, str, int | None, str]]:
    """Return depth, name, exit code and remark of each line of the picture at the head of ``errors.py``."""
    found = [DRAWN.match(line) for line in (errors.__doc__ or "").splitlines()]
    return [
        (len(match["branch"]) // 4, match["name"], int(match["code"]) if match["code"] else None, match["rest"])
        for match in found
        if match is not None
    ]


def real() -> dict[str, type[BaseException]]:
    return {
        name: value
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, BaseException) and value.__module__ == errors.__name__
    }


def test_the_picture_holds_every_error_once() -> None:
    """What is drawn and what can be raised are the same names."""
    names = [name for _, name, _, _ in drawn()]
    assert sorted(names) == sorted(real())
    assert len(names) > 20


def test_the_picture_shows_parents_and_exit_codes_as_they_are() -> None:
    """A line's parent in the picture is the class's base; its exit code is drawn, or is that of its parent."""
    classes = real()
    above: list[str] = []
    codes: dict[str, int] = {}
    for depth, name, code, rest in drawn():
        del above[depth:]
        if above:
            assert classes[name].__bases__[0] is classes[above[-1]], name
            codes[name] = codes[above[-1]] if code is None else code
        else:
            assert code is not None
            codes[name] = code
        assert classes[name].exit_code == codes[name], name  # type: ignore[attr-defined] # every class here has it
        also = re.search(r"also (\w+)", rest)
        if also is not None:
            assert also[1] in {base.__name__ for base in classes[name].__mro__}
        above.append(name)


SAMPLES = [
    errors.InvalidURIError("hf://", "there is no name", part="", suggestion="hf://org/repo"),
    errors.InvalidDigestError("short"),
    errors.ConfigError("retries"),
    errors.NotCachedError("hf://models/o/r@main"),
    errors.ModelNotFoundError("hf://models/o/r@main", "there is no such file"),
    errors.RevisionNotFoundError("hf://models/o/r@v9", "v9", "there is no such revision"),
    errors.DigestMismatchError("m.gguf", "sha256:" + "0" * 64, "sha256:" + "1" * 64),
    errors.SizeMismatchError("m.gguf", 10, 9),
    errors.StoreFullError(10_000, 4_000, where="/data"),
    errors.ConnectionInterruptedError("cut", bytes_kept=5),
    errors.ResponseError("503", status=503, retryable=True, retry_after=2.0),
    errors.TransferTimeoutError("slow"),
    errors.RemoteChangedError("changed"),
    errors.OfflineError("offline"),
    errors.AccessDeniedError("gated", status=403),
    errors.PolicyError("refused"),
    errors.BusyError("the lock gc", holder="process 7 on host", since="2026-01-01T00:00:00+00:00"),
    errors.PullCancelledError("hf://models/o/r@main", kept=True),
    errors.CorruptStoreError("damaged"),
    errors.SchemaVersionError("9", "1"),
]


def test_every_leaf_of_the_tree_has_a_sample_here() -> None:
    """The tests below speak of all errors that are raised."""
    leaves = {name for name, value in real().items() if not value.__subclasses__()}
    assert leaves - {type(sample).__name__ for sample in SAMPLES} == set()


@pytest.mark.parametrize("error", SAMPLES, ids=lambda error: type(error).__name__)
def test_an_error_is_one_line_and_says_whether_to_try_again(error: errors.CacheError) -> None:
    """The command prints one line, and a program can ask ``retryable`` of each error."""
    assert str(error)
    assert "\n" not in str(error)
    assert isinstance(error.retryable, bool)
    assert isinstance(error, errors.CacheError)


def test_facts_are_attributes() -> None:
    """A caller acts on attributes, not on the words of a message."""
    full = errors.StoreFullError(10_000, 4_000)
    assert (full.needed, full.available) == (10_000, 4_000)
    assert "6,000 missing" in str(full)
    busy = errors.BusyError("the lock gc", holder="process 7 on host", since="2026-01-01")
    assert (busy.holder, busy.since) == ("process 7 on host", "2026-01-01")
    assert "process 7 on host since 2026-01-01" in str(busy)
    answer = errors.ResponseError("503", status=503, retryable=False, bytes_kept=3, retry_after=2.0)
    assert (answer.status, answer.retryable, answer.bytes_kept, answer.retry_after) == (503, False, 3, 2.0)


def test_a_refused_uri_suggests_what_it_can() -> None:
    """The nearest right form where there is one, and no empty question where there is none."""
    assert "did you mean hf://org/repo" in str(SAMPLES[0])
    assert "did you mean" not in str(errors.InvalidURIError("x", "it is no URI"))


def test_errors_can_be_caught_as_the_built_in_ones_they_are() -> None:
    """Wrong words are ValueError, what is not there is LookupError, what took too long is TimeoutError."""
    assert issubclass(errors.InvalidInputError, ValueError)
    assert issubclass(errors.NotFoundError, LookupError)
    assert issubclass(errors.TransferTimeoutError, TimeoutError)
