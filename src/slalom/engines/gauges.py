"""What engines say about their load, read from their Prometheus text.

Owns the names by which llama.cpp and vLLM publish the same figures. Pure. Called by
`http_engine`.
"""

from slalom.engines.protocol import EngineMetrics

#: Per figure, the names engines use for it.
_RUNNING = frozenset({"llamacpp:requests_processing", "vllm:num_requests_running"})
_WAITING = frozenset({"llamacpp:requests_deferred", "vllm:num_requests_waiting"})
_GENERATED = frozenset({"llamacpp:tokens_predicted_total", "vllm:generation_tokens_total"})
_KV_USED = frozenset(
    {"llamacpp:kv_cache_usage_ratio", "vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"}
)
_NAMES = _RUNNING | _WAITING | _GENERATED | _KV_USED


def parse_gauges(text: str) -> EngineMetrics | None:
    """Read an engine's metrics page; None if it has neither vocabulary.

    Samples of one name with different labels (one per model or rank) are added up; of the KV
    cache's use the highest counts.
    """
    running = waiting = 0.0
    generated = kv_used = -1.0
    known = False
    for line in text.splitlines():
        if not line or line.startswith("#"):
            continue
        series, _, rest = line.rpartition("}") if "}" in line else line.partition(" ")
        name = series.partition("{")[0]
        if name not in _NAMES:
            continue
        try:
            value = float(rest.split()[0])
        except (IndexError, ValueError):
            continue
        if name in _RUNNING:
            running += value
            known = True
        elif name in _WAITING:
            waiting += value
        elif name in _KV_USED:
            kv_used = max(kv_used, value)
        else:
            generated = max(generated, 0.0) + value
    if not known:
        return None
    return EngineMetrics(int(running), int(waiting), int(generated), kv_used)
