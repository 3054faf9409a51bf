"""The network: a small decoder in Qwen2's layout, in plain torch.

Owns the modules, their initialisation, and plain sampling for a look at the result. It does
not train. Parameter names are those of a Qwen2 checkpoint, so `export_gguf.py` can map them
and other tools can read the saved weights.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as fn
from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of one model; widths must be multiples of 32 so that every matrix quantises."""

    name: str
    vocabulary: int
    width: int
    layers: int
    heads: int
    kv_heads: int
    feed_forward: int
    rope_base: float = 10_000.0
    norm_epsilon: float = 1e-6

    @property
    def head_width(self) -> int:
        """Width of one attention head."""
        return self.width // self.heads


class RmsNorm(nn.Module):
    """Root-mean-square normalisation with a learned scale."""

    def __init__(self, width: int, epsilon: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.epsilon = epsilon

    def forward(self, x: Tensor) -> Tensor:
        """Scale `x` to unit mean square along its last axis."""
        return fn.rms_norm(x, (x.size(-1),), self.weight, self.epsilon)


class Attention(nn.Module):
    """Grouped-query attention with rotary positions and q/k/v biases (Qwen2's layout)."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        kv_width = shape.kv_heads * shape.head_width
        self.q_proj = nn.Linear(shape.width, shape.width, bias=True)
        self.k_proj = nn.Linear(shape.width, kv_width, bias=True)
        self.v_proj = nn.Linear(shape.width, kv_width, bias=True)
        self.o_proj = nn.Linear(shape.width, shape.width, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Attend causally; `x` is (batch, time, width)."""
        batch, time, width = x.shape
        heads, kv_heads, size = self.shape.heads, self.shape.kv_heads, self.shape.head_width
        q = self.q_proj(x).view(batch, time, heads, size).transpose(1, 2)
        k = self.k_proj(x).view(batch, time, kv_heads, size).transpose(1, 2)
        v = self.v_proj(x).view(batch, time, kv_heads, size).transpose(1, 2)
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        repeat = heads // kv_heads
        k, v = k.repeat_interleave(repeat, dim=1), v.repeat_interleave(repeat, dim=1)
        mixed = fn.scaled_dot_product_attention(q, k, v, is_causal=True)
        out: Tensor = self.o_proj(mixed.transpose(1, 2).reshape(batch, time, width))
        return out


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Apply rotary positions; halves are paired, not neighbours."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)


class FeedForward(nn.Module):
    """SwiGLU feed-forward."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(shape.width, shape.feed_forward, bias=False)
        self.up_proj = nn.Linear(shape.width, shape.feed_forward, bias=False)
        self.down_proj = nn.Linear(shape.feed_forward, shape.width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map each position on its own."""
        out: Tensor = self.down_proj(fn.silu(self.gate_proj(x)) * self.up_proj(x))
        return out


class Layer(nn.Module):
    """One pre-normalised decoder layer."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.input_layernorm = RmsNorm(shape.width, shape.norm_epsilon)
        self.self_attn = Attention(shape)
        self.post_attention_layernorm = RmsNorm(shape.width, shape.norm_epsilon)
        self.mlp = FeedForward(shape)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Attention, then feed-forward, each added to the stream."""
        x = x + self.self_attn(self.input_layernorm(x), cos, sin)
        out: Tensor = x + self.mlp(self.post_attention_layernorm(x))
        return out


class Network(nn.Module):
    """The whole decoder; the output matrix is the embedding matrix."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.embed_tokens = nn.Embedding(shape.vocabulary, shape.width)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.layers))
        self.norm = RmsNorm(shape.width, shape.norm_epsilon)
        self._initialise()

    def _initialise(self) -> None:
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            elif name.endswith(("o_proj.weight", "down_proj.weight")):
                nn.init.normal_(parameter, std=0.02 / math.sqrt(2 * self.shape.layers))
            elif parameter.ndim == 2:
                nn.init.normal_(parameter, std=0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return logits (batch, time, vocabulary)."""
        positions = torch.arange(tokens.size(1), dtype=torch.float32)
        half = self.shape.head_width // 2
        rates = self.shape.rope_base ** (-torch.arange(half, dtype=torch.float32) / half)
        angles = torch.outer(positions, rates)
        cos, sin = angles.cos(), angles.sin()
        x = self.embed_tokens(tokens)
        for layer in self.layers:
            x = layer(x, cos, sin)
        return fn.linear(self.norm(x), self.embed_tokens.weight)

    def parameter_count(self) -> int:
        """Trained numbers; the tied matrix counts once."""
        return sum(parameter.numel() for parameter in self.parameters())


@torch.no_grad()
def sample(
    network: Network, prompt: list[int], *, stop: frozenset[int], limit: int, temperature: float
) -> list[int]:
    """Continue `prompt` by at most `limit` tokens (temperature 0 is greedy)."""
    tokens = list(prompt)
    for _ in range(limit):
        logits = network(torch.tensor([tokens]))[0, -1]
        if temperature <= 0:
            chosen = int(logits.argmax())
        else:
            top = logits.topk(40)
            chances = (top.values / temperature).softmax(-1)
            chosen = int(top.indices[torch.multinomial(chances, 1)])
        if chosen in stop:
            break
        tokens.append(chosen)
    return tokens[len(prompt) :]
