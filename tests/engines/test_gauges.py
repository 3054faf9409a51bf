"""Reading the metrics pages of llama.cpp and vLLM."""

from slalom.engines.gauges import parse_gauges
from slalom.engines.protocol import EngineMetrics


def test_llama_cpp() -> None:
    text = """# HELP llamacpp:requests_processing Number of requests processing
# TYPE llamacpp:requests_processing gauge
llamacpp:requests_processing 3
llamacpp:requests_deferred 1
llamacpp:tokens_predicted_total 1200
llamacpp:predicted_tokens_seconds 55.5
"""
    assert parse_gauges(text) == EngineMetrics(running=3, waiting=1, generated_tokens=1200)


def test_vllm_adds_up_its_ranks() -> None:
    text = """vllm:num_requests_running{engine="0",model_name="a b"} 2.0
vllm:num_requests_running{engine="1",model_name="a b"} 3.0
vllm:num_requests_waiting{engine="0",model_name="a b"} 4.0 1700000000
vllm:generation_tokens_total{engine="0",model_name="a b"} 1e3
vllm:kv_cache_usage_perc{engine="0",model_name="a b"} 0.25
vllm:kv_cache_usage_perc{engine="1",model_name="a b"} 0.125
"""
    assert parse_gauges(text) == EngineMetrics(
        running=5, waiting=4, generated_tokens=1000, kv_used=0.25
    )


def test_an_engine_that_does_not_count_tokens() -> None:
    assert parse_gauges("llamacpp:requests_processing 0\n") == EngineMetrics(0, 0, -1)


def test_somebody_elses_page_is_nobodys_load() -> None:
    assert parse_gauges("") is None
    assert parse_gauges("python_info 5\nllamacpp:requests_processing x") is None
    assert parse_gauges("<html>404</html>") is None
