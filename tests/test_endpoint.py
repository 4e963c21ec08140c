"""The client of an OpenAI-compatible endpoint, against a real server that behaves as endpoints do."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from chat_server import Server, serving

from mlc import endpoint
from mlc.endpoint import Completion, Endpoint, EndpointError, Refused
from mlc.errors import MlcError


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(endpoint, "FIRST_WAIT", 0.01)
    with serving() as served:
        yield served


def bodies(*texts: str) -> list[dict[str, Any]]:
    return [{"messages": [{"role": "user", "content": text}], "temperature": 0} for text in texts]


def test_every_request_is_answered_once_and_no_more_than_so_many_at_a_time(server: Server) -> None:
    texts = [f"prompt {i}" for i in range(30)]
    answers = dict(Endpoint(server.url, "m", concurrency=4).complete(bodies(*texts)))
    assert sorted(answers) == list(range(30)) and set(server.attempts.values()) == {1}
    assert all(isinstance(answers[i], Completion) and answers[i].text == texts[i].upper() for i in range(30))
    assert 1 < server.busiest <= 4
    assert server.bodies[0] == {"model": "m", **bodies(server.bodies[0]["messages"][0]["content"])[0]}
    answer = answers[0]
    assert isinstance(answer, Completion)
    assert answer[1:6] == ("stop", 3, 2, "served", "f1") and answer.seconds > 0


def test_passing_faults_are_tried_again_after_the_wait_that_is_asked_for(server: Server) -> None:
    answers = dict(Endpoint(server.url, "m").complete(bodies("limited", "dropped", "fine")))
    assert [answers[i].text for i in range(3)] == ["LIMITED", "DROPPED", "FINE"]  # type: ignore[union-attr]
    assert server.attempts == {"limited": 2, "dropped": 2, "fine": 1}
    first, second = server.at["limited"]
    assert second - first >= 0.5


def test_what_one_request_meets_does_not_stop_the_others(server: Server) -> None:
    answers = dict(Endpoint(server.url, "m").complete(bodies("filtered", "fine", "nonsense")))
    assert isinstance(answers[0], Refused) and "content filter" in answers[0].reason
    assert isinstance(answers[2], Refused) and "no chat completion" in answers[2].reason
    assert isinstance(answers[1], Completion)
    assert server.attempts["filtered"] == 1


def test_an_endpoint_that_rejects_a_field_of_every_request_stops_the_run() -> None:
    """As hosted reasoning models reject max_tokens; what is about a message alone stops nothing."""
    with serving(unknown_field="temperature") as server:
        with pytest.raises(EndpointError, match=r"HTTP 400: Unsupported parameter: temperature.*`body`"):
            list(Endpoint(server.url, "m", concurrency=1).complete(bodies("one", "two", "three")))
        assert server.bodies[-1]["messages"] == [endpoint.HARMLESS] and len(server.bodies) == 2
        without = Endpoint(server.url, "m", concurrency=1, extra={"temperature": None, "seed": 1})
        answers = dict(without.complete(bodies("filtered", "fine")))
        assert isinstance(answers[0], Refused) and isinstance(answers[1], Completion)
        assert server.bodies[-1] == {"model": "m", "messages": [{"role": "user", "content": "fine"}], "seed": 1}


def test_where_nothing_but_filtered_messages_is_asked_the_filter_is_not_taken_for_the_endpoint(server: Server) -> None:
    answers = dict(Endpoint(server.url, "m", concurrency=1).complete(bodies(*["filtered"] * 4)))
    assert all(isinstance(answer, Refused) for answer in answers.values())
    assert len(server.bodies) == 5  # one harmless request


def test_an_endpoint_that_stays_down_is_given_up_with_what_it_said(server: Server) -> None:
    with pytest.raises(EndpointError, match=r"gave up after 3 attempts: HTTP 503: .*overloaded"):
        list(Endpoint(server.url, "m", attempts=3).complete(bodies("down")))
    assert server.attempts["down"] == 3


def test_a_wrong_key_or_address_is_an_error_at_once(server: Server) -> None:
    with pytest.raises(EndpointError, match=r"model m: HTTP 401: .*no such key"):
        list(Endpoint(server.url, "m").complete(bodies("key")))
    with pytest.raises(EndpointError, match="404"):
        list(Endpoint(f"{server.url}/elsewhere", "m").complete(bodies("fine")))
    assert server.attempts == {"key": 1, "fine": 1}
    with pytest.raises(EndpointError, match="gave up after 2 attempts"):
        list(Endpoint("http://127.0.0.1:9/v1", "m", attempts=2).complete(bodies("nobody listens")))
    with pytest.raises(EndpointError, match="is no URL"):
        list(Endpoint("no url", "m").complete(bodies("fine")))


def test_the_key_comes_from_the_environment(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SOME_KEY", raising=False)
    with pytest.raises(MlcError, match="set the environment variable SOME_KEY"):
        Endpoint(server.url, "m", "SOME_KEY")
    monkeypatch.setenv("SOME_KEY", "sesame")
    with pytest.raises(EndpointError, match=r"no such key: Bearer \*\*\*"):
        list(Endpoint(server.url, "m", "SOME_KEY").complete(bodies("key")))
    list(Endpoint(server.url, "m", "SOME_KEY").complete(bodies("fine")))
    assert server.keys == {"Bearer sesame"}


def test_stopping_early_asks_no_more(server: Server) -> None:
    answers = Endpoint(server.url, "m", concurrency=2).complete(bodies(*(f"{i}" for i in range(50))))
    next(answers)
    answers.close()  # type: ignore[attr-defined]
    request_count = len(server.bodies)
    time.sleep(0.1)
    assert len(server.bodies) == request_count < 10


def test_a_wait_that_is_asked_for_holds_for_all(server: Server) -> None:
    list(Endpoint(server.url, "m", concurrency=1).complete(bodies("limited", "fine")))
    assert server.at["fine"][0] - server.at["limited"][0] >= 0.5
    together = Endpoint(server.url, "m", concurrency=2).complete(bodies("limited too", "slow", *"abcdefgh"))
    list(together)
    limited_at = server.at["limited too"][0]
    assert not [at for text in "cdefgh" for at in server.at[text] if limited_at + 0.1 < at < limited_at + 0.5]


def test_an_answer_that_comes_drop_by_drop_takes_no_longer_than_the_timeout(server: Server) -> None:
    started = time.monotonic()
    with pytest.raises(EndpointError, match=r"no answer within 0.3 s"):
        list(Endpoint(server.url, "m", timeout=0.3, attempts=2).complete(bodies("dripping")))
    assert time.monotonic() - started < 3
