"""The token that a bridge and its gateway share."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from livemind.rag.access.token import TokenError, opens, proof, proves, shared_token


@pytest.fixture(autouse=True)
def no_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LIVEMIND_BRIDGE_TOKEN", raising=False)


def test_token_is_made_once_for_this_user_alone(tmp_path: Path) -> None:
    file = tmp_path / "state" / "token"
    made = shared_token(file)
    assert made == shared_token(file)
    assert file.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in file.parent.iterdir()] == ["token"]


def test_token_made_by_many_at_once_is_one(tmp_path: Path) -> None:
    file = tmp_path / "token"
    with ThreadPoolExecutor(8) as threads:
        made = set(threads.map(lambda _: shared_token(file), range(32)))
    assert len(made) == 1


def test_token_that_others_can_read_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "token"
    shared_token(file)
    file.chmod(0o640)
    with pytest.raises(TokenError, match="chmod 600"):
        shared_token(file)


@pytest.mark.parametrize("text", ["", "short", " \n", "tökentökentökentöken"])
def test_token_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "token"
    file.write_text(text)
    file.chmod(0o600)
    with pytest.raises(TokenError, match="need a token"):
        shared_token(file)


def test_token_in_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TokenError, match="file"):
        shared_token(tmp_path / "file" / "token")


def test_token_of_the_environment_comes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIVEMIND_BRIDGE_TOKEN", "x" * 20)
    assert shared_token(tmp_path / "token") == "x" * 20
    assert not (tmp_path / "token").exists()


def test_missing_token_is_not_made_where_it_must_not_be(tmp_path: Path) -> None:
    assert shared_token(tmp_path / "token", make=False) is None
    assert list(tmp_path.iterdir()) == []


def test_proof_is_of_one_token_and_one_challenge() -> None:
    answer = proof("a" * 20, "once")
    assert proves("a" * 20, "once", answer)
    assert not proves("b" * 20, "once", answer)
    assert not proves("a" * 20, "twice", answer)
    assert not proves("a" * 20, "once", None)
    assert not proves("a" * 20, "once", "ü\ud800")


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer y", "Basic " + "x" * 20, "Bearer ü"])
def test_authorization_of_another_token_does_not_open(header: str) -> None:
    assert opens("x" * 20, "bearer " + "x" * 20)
    assert not opens("x" * 20, header)
