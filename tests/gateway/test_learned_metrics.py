"""What a planner has learned of engines, as operators see it."""

from slalom.policies.trim.plan_and_trim import PlanAndTrim
from tests.gateway.house import House, chat, house


async def _values(url: str, at: House) -> dict[str, float]:
    async with at.http.get(url) as reply:
        lines = (await reply.text()).splitlines()
    pairs = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    return {name: float(value) for name, value in pairs}


async def test_metrics_tell_what_a_planner_thinks_of_its_predictions() -> None:
    async with house(admission=PlanAndTrim()) as at:
        for _ in range(3):
            await at.stream(chat(tokens=8))
        await at.until(lambda: len(at.ended) == 3)
        values = await _values(f"{at.url}/metrics", at)
        model = at.ended[0].model
        assert values[f'slalom_prediction_healthy{{model="{model}"}}'] == 1
        assert 0 <= values[f'slalom_step_time_error{{model="{model}",what="step"}}'] <= 1
        assert 0 <= values[f'slalom_step_time_error{{model="{model}",what="first_token"}}'] <= 1
        assert 0 <= values[f'slalom_step_time_coverage{{model="{model}"}}'] <= 1
        assert values[f'slalom_step_time_changes_total{{model="{model}"}}'] == 0


async def test_where_nothing_learns_there_is_nothing_to_tell() -> None:
    async with house() as at:
        await at.stream(chat(tokens=2))
        values = await _values(f"{at.url}/metrics", at)
        assert not [name for name in values if name.startswith("slalom_step_time")]
