"""The networks: a text and an image encoder in one space (CLIP's layout), generators that denoise by
flow matching (SD3's inputs and outputs, on pixels), and the judge that tells a picture's attributes.

Only their shapes and forward passes; how they are trained is in `train.py`. No dropout anywhere: a
forward pass is a function.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

import world


class Squared(nn.Module):
    """The square of the positive part: as good as GELU here, and a tenth of its time on a CPU."""

    def forward(self, x):
        positive = F.relu(x)
        return positive * positive


class Linear(nn.Linear):
    """A linear layer over rows of one matrix: ONNX Runtime then adds the bias within the product."""

    def forward(self, x):
        return super().forward(x.flatten(0, -2)).unflatten(0, x.shape[:-1])


def unit(x):
    """Vectors of length 1."""
    return x * torch.rsqrt((x * x).sum(-1, keepdim=True) + 1e-12)


class Attention(nn.Module):
    """Self-attention with normalised queries and keys; `extra` tokens are attended to, and stay as they are."""

    def __init__(self, width, heads, extra_width=0):
        super().__init__()
        self.heads = heads
        self.qkv = Linear(width, 3 * width)
        self.extra = Linear(extra_width, 2 * width) if extra_width else None
        self.out = Linear(width, width)
        self.scale = nn.Parameter(torch.full((heads, 1, 1), math.log(8.0)))

    def forward(self, x, mask=None, extra=None):
        q, k, v = self.qkv(x).chunk(3, -1)
        if extra is not None:
            extra_k, extra_v = self.extra(extra).chunk(2, -1)
            k, v = torch.cat([k, extra_k], 1), torch.cat([v, extra_v], 1)
        q, k, v = (t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in (q, k, v))
        q, k = unit(q) * self.scale.exp(), unit(k)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=1.0)
        return self.out(out.transpose(1, 2).flatten(2))


class Block(nn.Module):
    """A transformer block: attention and a perceptron, each normalised before and added after."""

    def __init__(self, width, heads, ratio=4):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.perceptron = nn.Sequential(Linear(width, ratio * width), Squared(), Linear(ratio * width, width))

    def forward(self, x, mask=None):
        x = x + self.attention(self.norm1(x), mask)
        return x + self.perceptron(self.norm2(x))


class TextEncoder(nn.Module):
    """Token ids [n, length] to the text's embedding [n, embedding] and its tokens' states [n, length, width].

    Causal, as CLIP's: the state at the first end token, which has the highest id, is that of the whole text.
    """

    def __init__(self, vocabulary, length, width, depth, heads, embedding):
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width)
        self.positions = nn.Parameter(torch.randn(length, width) * 0.02)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.project = nn.Linear(width, embedding, bias=False)
        self.register_buffer("mask", torch.full((length, length), -1e4).triu(1), persistent=False)
        nn.init.normal_(self.tokens.weight, std=0.02)

    def forward(self, input_ids):
        x = self.tokens(input_ids) + self.positions
        for block in self.blocks:
            x = block(x, self.mask)
        states = self.norm(x)
        end = input_ids.argmax(-1)
        pooled = states.gather(1, end[:, None, None].expand(-1, 1, states.shape[-1]))[:, 0]
        return self.project(pooled), states


class ImageEncoder(nn.Module):
    """Pictures [n, 3, side, side] to embeddings [n, embedding]: a vision transformer with a class token."""

    def __init__(self, patch, width, depth, heads, embedding):
        super().__init__()
        self.patches = nn.Conv2d(3, width, patch, patch)
        self.positions = nn.Parameter(torch.randn(1 + (world.SIDE // patch) ** 2, width) * 0.02)
        self.first = nn.Parameter(torch.zeros(1, 1, width))
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.project = nn.Linear(width, embedding, bias=False)

    def forward(self, pixel_values):
        x = self.patches(pixel_values).flatten(2).transpose(1, 2)
        x = torch.cat([self.first.expand(x.shape[0], -1, -1), x], 1) + self.positions
        for block in self.blocks:
            x = block(x)
        return self.project(self.norm(x[:, 0]))


@dataclass(frozen=True)
class GeneratorSize:
    """What makes a generator large or small."""

    width: int
    depth: int
    heads: int
    patch: int
    text_width: int
    text_depth: int
    pooled: int


class ModulatedBlock(nn.Module):
    """A block of the generator: text and time say how its input is scaled and shifted and how much of its output counts."""

    def __init__(self, size):
        super().__init__()
        width = size.width
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.attention = Attention(width, size.heads, size.text_width)
        self.perceptron = nn.Sequential(Linear(width, 4 * width), Squared(), Linear(4 * width, width))
        self.modulation = nn.Linear(width, 6 * width)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def forward(self, x, condition, text):
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(condition)[:, None].chunk(6, -1)
        x = x + gate1 * self.attention(self.norm(x) * (1 + scale1) + shift1, extra=text)
        return x + gate2 * self.perceptron(self.norm(x) * (1 + scale2) + shift2)


class Denoiser(nn.Module):
    """SD3's transformer on pixels: the velocity (noise - picture) at a noisy picture.

    Inputs: hidden_states [n, 3, side, side], encoder_hidden_states [n, length, text_width],
    pooled_projections [n, pooled], timestep [n] (1000 sigma). Inside, the network predicts the clean
    picture and the velocity follows from it: pictures are simple and noise is not.
    """

    # The smallest sigma that is divided by; samplers never ask for less but at the end.
    LEAST_SIGMA = 0.02

    def __init__(self, size):
        super().__init__()
        self.size = size
        across = world.SIDE // size.patch
        self.embed = Linear(3 * size.patch**2, size.width)
        self.positions = nn.Parameter(torch.randn(across * across, size.width) * 0.1)
        self.time = nn.Sequential(nn.Linear(64, size.width), nn.SiLU(), nn.Linear(size.width, size.width))
        self.pooled = nn.Sequential(nn.Linear(size.pooled, size.width), nn.SiLU(), nn.Linear(size.width, size.width))
        self.blocks = nn.ModuleList(ModulatedBlock(size) for _ in range(size.depth))
        self.norm = nn.LayerNorm(size.width, elementwise_affine=False)
        self.modulation = nn.Linear(size.width, 2 * size.width)
        self.out = Linear(size.width, 3 * size.patch**2)
        self.register_buffer("frequencies", torch.exp(torch.linspace(0, -math.log(1e3), 32)) * 2, persistent=False)
        for layer in (self.modulation, self.out):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def picture(self, hidden_states, encoder_hidden_states, pooled_projections, timestep):
        """The clean picture, as far as it can be told."""
        patch, across = self.size.patch, world.SIDE // self.size.patch
        x = hidden_states.unflatten(3, (across, patch)).unflatten(2, (across, patch))
        x = self.embed(x.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)) + self.positions
        angles = timestep[:, None] * self.frequencies
        condition = self.time(torch.cat([angles.sin(), angles.cos()], -1)) + self.pooled(pooled_projections)
        condition = F.silu(condition)
        for block in self.blocks:
            x = block(x, condition, encoder_hidden_states)
        shift, scale = self.modulation(condition)[:, None].chunk(2, -1)
        x = self.out(self.norm(x) * (1 + scale) + shift)
        x = x.unflatten(1, (across, across)).unflatten(3, (3, patch, patch))
        return x.permute(0, 3, 1, 4, 2, 5).flatten(4).flatten(2, 3)

    def forward(self, hidden_states, encoder_hidden_states, pooled_projections, timestep):
        clean = self.picture(hidden_states, encoder_hidden_states, pooled_projections, timestep)
        sigma = (timestep / 1000).clamp(min=self.LEAST_SIGMA)
        return (hidden_states - clean) / sigma[:, None, None, None]


class Generator(nn.Module):
    """A denoiser and the text encoder it was trained with."""

    def __init__(self, size, vocabulary, length):
        super().__init__()
        heads = max(1, size.text_width // 32)
        self.text_encoder = TextEncoder(vocabulary, length, size.text_width, size.text_depth, heads, size.pooled)
        self.transformer = Denoiser(size)


# What the judge may say beyond the attributes' values: no such shape, no such number of objects.
JUDGED = [count + (column in (world.KIND, world.SHAPE, world.SHAPE2)) for column, count in enumerate(world.COUNTS)]


class Judge(nn.Module):
    """Pictures [n, 3, side, side] to logits of each attribute, a list in the order of `world.ATTRIBUTES`, sizes `JUDGED`.

    A convolutional network, unlike everything it judges.
    """

    def __init__(self):
        super().__init__()
        layers, channels = [], 3
        for out, stride in [(48, 2), (64, 1), (96, 2), (128, 1), (128, 2)]:
            layers += [nn.Conv2d(channels, out, 3, stride, 1), nn.GroupNorm(8, out), nn.ReLU()]
            channels = out
        side = world.SIDE // 8
        self.features = nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels * side * side, 256), nn.ReLU())
        self.heads = nn.ModuleList(nn.Linear(256, count) for count in JUDGED)

    def forward(self, pixel_values):
        features = self.features(pixel_values)
        return [head(features) for head in self.heads]
