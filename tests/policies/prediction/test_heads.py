"""What replicas have read before: whose cache holds how much, learned from what is found again."""

from dataclasses import replace

from slalom.core.request import Request
from slalom.policies.prediction.heads import Heads
from tests.policies.prediction.attempts import Try, request_of


def _asked(name: str, prefix: str, prompt: int, shared: int = 0, start: str = "") -> Request:
    asked = request_of(name, prompt=prompt)
    return replace(asked, prefix=prefix, prefix_tokens=shared, prefix_from=start)


def _play(
    heads: Heads, request: Request, *, replica: str = "m#0", tokens: int = 100, cached: int = -1
) -> None:
    run = Try(request, replica_id=replica)
    heads.begin(run)
    heads.told(run.told(tokens, 1))
    run.cached_tokens = cached
    heads.over(run, finished=True)


def test_what_was_read_and_written_is_there_for_the_next_step_on_that_replica_only() -> None:
    heads = Heads()
    _play(heads, _asked("a", "talk", 1_000))
    following = _asked("b", "talk", 1_500, shared=1_100)
    assert heads.known(following, 0, "m#0").tokens == 1_100
    assert heads.known(following, 0, "m#1").tokens == 0
    assert heads.known(_asked("c", "other", 1_500, shared=1_100), 0, "m#0").tokens == 0


def test_no_more_is_there_than_was_read() -> None:
    heads = Heads()
    _play(heads, _asked("a", "talk", 1_000))
    # The step between ran elsewhere: what it added was never read here.
    assert heads.known(_asked("c", "talk", 9_000, shared=8_000), 0, "m#0").tokens == 1_100
    # The last token of a prompt is always read.
    assert heads.known(_asked("d", "talk", 1_000, shared=1_000), 0, "m#0").tokens == 999


def test_a_new_conversation_shares_the_beginning_of_an_older_one() -> None:
    heads = Heads()
    _play(heads, _asked("a", "talk", 1_000))
    branch = _asked("b", "branch", 900, shared=600, start="talk")
    assert heads.known(branch, 0, "m#0").tokens == 600
    _play(heads, branch)
    assert heads.known(_asked("c", "branch", 1_200, shared=1_000), 0, "m#0").tokens == 1_000
    assert heads.known(_asked("d", "talk", 1_200, shared=1_100), 0, "m#0").tokens == 1_100


def test_what_nobody_has_read_yet_is_not_there() -> None:
    heads = Heads()
    run = Try(_asked("a", "talk", 1_000))
    heads.begin(run)
    following = _asked("b", "talk", 1_500, shared=1_000)
    assert heads.known(following, 0, "m#0").tokens == 0
    heads.over(run, finished=False)
    assert heads.known(following, 0, "m#0").tokens == 0


def test_a_replica_that_was_loaded_anew_has_read_nothing() -> None:
    heads = Heads()
    heads.renew("m#0", 5)
    _play(heads, _asked("a", "talk", 1_000))
    following = _asked("b", "talk", 1_500, shared=1_000)
    heads.renew("m#0", 5)
    assert heads.known(following, 0, "m#0").tokens == 1_000
    heads.renew("m#0", 9)
    assert heads.known(following, 0, "m#0").tokens == 0


def test_a_paused_answer_finds_its_own_prompt_again_until_it_is_whole() -> None:
    heads = Heads()
    paused = replace(request_of("a", prompt=1_000), resumable=True)
    run = Try(paused)
    heads.begin(run)
    heads.told(run.told(50, 1))
    heads.over(run, finished=False)
    assert heads.known(paused, 50, "m#0").tokens == 1_049
    assert heads.known(paused, 0, "m#0").tokens == 0, "it shares nothing with others"
    rest = Try(paused, number=2, resumed_tokens=50)
    heads.begin(rest)
    heads.over(rest.told(10, 2), finished=True)
    assert heads.known(paused, 60, "m#0").tokens == 0


def test_an_engine_that_says_that_it_finds_nothing_is_believed() -> None:
    heads = Heads()
    _play(heads, _asked("0", "talk", 1_000))
    hoped = heads.known(_asked("x", "talk", 1_200, shared=1_000), 0, "m#0").expected
    for step in range(1, 8):
        _play(heads, _asked(str(step), "talk", 1_000, shared=900), cached=0)
    found = heads.known(_asked("x", "talk", 1_200, shared=1_000), 0, "m#0").expected
    assert hoped > 800
    assert found < 150
    # Times to first tokens are not asked any more.
    for _ in range(20):
        heads.guessed(heads.known(_asked("x", "talk", 1_200, shared=1_000), 0, "m#0"), 1.0)
    assert heads.known(_asked("x", "talk", 1_200, shared=1_000), 0, "m#0").expected == found


def test_a_cache_that_is_too_small_forgets_what_is_long_ago_and_keeps_what_is_not() -> None:
    heads = Heads()
    for turn in range(30):
        # Ten conversations in turn: 20,000 tokens lie between two steps of one of them.
        for talk in range(10):
            shared = 1_900 if turn else 0
            _play(heads, _asked(f"{turn}.{talk}", f"talk{talk}", 2_000, shared), cached=0)
            again = _asked(f"{turn}.{talk}!", f"talk{talk}", 2_100, shared=2_000)
            _play(heads, again, cached=2_000)
    late = heads.known(_asked("x", "talk0", 2_100, shared=2_000), 0, "m#0")
    soon = heads.known(_asked("x", "talk9", 2_100, shared=2_000), 0, "m#0")
    assert late.share < 0.2
    assert soon.share > 0.8
    # What is older still is no better.
    for talk in range(90):
        _play(heads, _asked(f"n{talk}", f"new{talk}", 2_000))
    assert heads.known(_asked("x", "talk9", 2_100, shared=2_000), 0, "m#0").share < 0.2


def test_names_are_bounded() -> None:
    heads = Heads()
    for talk in range(5_000):
        _play(heads, _asked(f"a{talk}", f"talk{talk}", 100))
    assert repr(heads) == "Heads(replicas=1, names=2048)"
    assert heads.known(_asked("x", "talk4999", 200, shared=100), 0, "m#0").tokens == 100
    assert heads.known(_asked("x", "talk0", 200, shared=100), 0, "m#0").tokens == 0
