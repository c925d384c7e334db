"""Draw images of digits, letters, shapes and textures in batches.

Coordinates are (x, y) in [-1, 1]; masks are float[batch, SIZE, SIZE] and images float[batch, 3, SIZE, SIZE], both in [0, 1].
All draws come from one generator, hence from a seed.
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Generator, Tensor

from pretraining import captions as c
from pretraining.masks import Atlas, load_atlas
from pretraining.patterns import SIZE, chance, fill, generator, pixels, smooth_noise, texture_masks, uniform

__all__ = ["MIXTURE", "SIZE", "batch", "draw_attributes", "generator", "load_atlas", "render"]

PLAIN = 0.35  # the share that is hardly warped: easy examples from which a first step can be learnt
MIXTURE = {"digit": 0.24, "letter": 0.40, "shape": 0.20, "count": 0.09, "texture": 0.07}
RGB = torch.tensor(
    [
        (0.88, 0.10, 0.10), (1.00, 0.55, 0.05), (0.97, 0.90, 0.15), (0.10, 0.62, 0.20), (0.15, 0.85, 0.90), (0.12, 0.22, 0.88),
        (0.50, 0.15, 0.70), (1.00, 0.55, 0.75), (0.45, 0.26, 0.10), (0.03, 0.03, 0.03), (0.97, 0.97, 0.97), (0.50, 0.50, 0.50),
    ]
)  # fmt: skip
BLACK, WHITE = c.COLOURS.index("black"), c.COLOURS.index("white")


def draw_attributes(g: Generator, count: int, mixture: dict[str, float] = MIXTURE) -> Int[Tensor, "count fields"]:
    """What each image of a batch is to show; see captions.FIELDS."""
    kinds = torch.multinomial(torch.tensor(list(mixture.values())), count, replacement=True, generator=g)
    kind = torch.tensor([list(MIXTURE).index(name) for name in mixture])[kinds]
    digit, letter, shape, many, texture = (kind == k for k in range(5))

    def pick(low: int, high: int, where: Tensor) -> Tensor:
        return torch.where(where, torch.randint(low, high, (count,), generator=g), -1)

    rows = torch.full((count, len(c.FIELDS)), -1)
    rows[:, c.KIND] = torch.tensor([c.IS_DIGIT, c.IS_LETTER, c.IS_SHAPE, c.IS_SHAPE, c.IS_TEXTURE])[kind]
    rows[:, c.DIGIT] = pick(0, 10, digit)
    rows[:, c.LETTER] = pick(0, 26, letter)
    rows[:, c.CASE] = pick(0, 2, letter)
    rows[:, c.SHAPE] = pick(0, len(c.SHAPES), shape | many)
    rows[:, c.COUNT] = torch.where(many, pick(2, 6, many), torch.where(shape, 1, -1))
    rows[:, c.PATTERN] = torch.where(chance(g, 0.5, count), pick(1, 4, shape), torch.where(shape | many, 0, -1))
    rows[:, c.TEXTURE] = pick(0, len(c.TEXTURES), texture)
    neutral = uniform(g, 0, 1, count)
    ink = torch.randint(0, len(c.COLOURS), (count,), generator=g)
    paper = torch.randint(0, len(c.COLOURS), (count, 4), generator=g)
    apart = (RGB[paper] - RGB[ink][:, None]).norm(dim=-1)
    paper = paper.gather(1, apart.argmax(1, keepdim=True))[:, 0]  # the farthest of four, so that nothing vanishes
    symbol = digit | letter
    white_on_black = symbol & (neutral < 0.15) | ~symbol & (neutral < 0.1) & (ink != BLACK)
    black_on_white = symbol & (neutral > 0.85)
    ink = torch.where(black_on_white, BLACK, torch.where(white_on_black & symbol, WHITE, ink))
    paper = torch.where(black_on_white, WHITE, torch.where(white_on_black, BLACK, paper))
    rows[:, c.COLOUR] = torch.where(texture, -1, ink)
    rows[:, c.BACKGROUND] = torch.where(texture, -1, paper)
    return rows


def mask_rows(attributes: Tensor, atlas: Atlas, g: Generator) -> Int[Tensor, "batch"]:
    """A row of the atlas for each image: a random font's glyph, or the shape."""
    draws = torch.rand(len(attributes), generator=g).tolist()
    out = []
    for (kind, digit, letter, case, shape, *_), draw in zip(attributes.tolist(), draws, strict=True):
        symbol = digit if kind == c.IS_DIGIT else 10 + letter + 26 * case if kind == c.IS_LETTER else 62 + max(shape, 0)
        members = atlas.members[symbol]
        out.append(members[int(draw * len(members))])
    return torch.tensor(out, dtype=torch.long)


def source_coordinates(g: Generator, symbol: Tensor) -> Float[Tensor, "batch SIZE SIZE 2"]:
    """Where each pixel falls in its mask's cell: random place, size, aspect, turn, shear and elastic warp."""
    count = len(symbol)
    height = uniform(g, 0.5, 1.15, count)
    loose = torch.where(chance(g, PLAIN, count), 0.2, 1.0)
    width = height * torch.exp(torch.randn(count, generator=g) * torch.where(symbol, 0.2, 0.08) * loose)
    width = width.clamp(0.3, 1.15)
    free = (1.02 - torch.stack([width, height], 1) * 0.9).clamp(min=0.03)
    shift = uniform(g, -1, 1, count, 2) * free
    angle = torch.randn(count, generator=g).clamp(-2.2, 2.2) * 0.16 * loose
    shear = torch.where(symbol, torch.randn(count, generator=g).clamp(-2, 2) * 0.1, 0.0) * loose
    p = pixels()[None] - shift[:, None, None]
    cos, sin = torch.cos(angle)[:, None, None], torch.sin(angle)[:, None, None]
    x, y = p[..., 0] * cos + p[..., 1] * sin, p[..., 1] * cos - p[..., 0] * sin
    x = x + shear[:, None, None] * y
    q = torch.stack([x / width[:, None, None], y / height[:, None, None]], -1)
    strength = (torch.randn(count, generator=g).abs() * 0.015 * loose).clamp(max=0.13)
    nodes = int(torch.randint(4, 7, (1,), generator=g))
    return q + smooth_noise(g, count, 2, nodes).permute(0, 2, 3, 1) * strength[:, None, None, None]


def sample(distance: Tensor, q: Tensor) -> Float[Tensor, "batch SIZE SIZE"]:
    """Distances at coordinates q, falling off outside the cell rather than repeating its border."""
    inside = F.grid_sample(distance[:, None].float(), q, align_corners=False, padding_mode="border")[:, 0]
    return inside - (q.abs() - 1).clamp(min=0).amax(-1)


def symbol_masks(attributes: Tensor, atlas: Atlas, g: Generator) -> tuple[Tensor, Tensor]:
    """Soft masks [batch, SIZE, SIZE] of one glyph or shape each, and the coordinates inside it."""
    rows = mask_rows(attributes, atlas, g)
    count = len(rows)
    symbol = attributes[:, c.KIND] <= c.IS_LETTER
    q = source_coordinates(g, symbol)
    distance = sample(atlas.distance[rows], q)
    width = atlas.halfwidth[rows]
    target = torch.exp(uniform(g, math.log(0.04), math.log(0.2), count))
    restroke = torch.maximum((target - width).clamp(max=0.075), -0.6 * width) * (chance(g, 0.25, count) & symbol)
    uneven = smooth_noise(g, count, 1, 5)[:, 0] * (uniform(g, 0, 0.03, count) * symbol)[:, None, None]
    distance = distance + restroke[:, None, None] + uneven * (width.clamp(max=0.1) * 10)[:, None, None]
    hollow = (symbol & chance(g, 0.03, count) & (width > 0.12))[:, None, None]
    distance = torch.where(hollow, 0.05 - (distance - 0.05).abs(), distance)
    softness = torch.exp(uniform(g, math.log(0.012), math.log(0.05), count))
    mask = torch.sigmoid(distance / softness[:, None, None])
    return mask, q


def count_masks(attributes: Tensor, atlas: Atlas, g: Generator) -> Tensor:
    """Soft masks [batch, SIZE, SIZE] of `count` small copies of a shape in distinct cells of a 3 x 3 grid."""
    count = len(attributes)
    distance = atlas.distance[mask_rows(attributes, atlas, g)]
    cells = torch.rand(count, 9, generator=g).argsort(1)[:, :5]
    scale = uniform(g, 0.24, 0.33, count)
    mask = torch.zeros(count, SIZE, SIZE)
    for slot in range(5):
        centre = torch.stack([cells[:, slot] % 3 - 1, cells[:, slot] // 3 - 1], 1) * 0.64 + uniform(g, -0.04, 0.04, count, 2)
        q = (pixels()[None] - centre[:, None, None]) / scale[:, None, None, None]
        one = torch.sigmoid(sample(distance, q) / 0.08)
        mask = torch.maximum(mask, one * (attributes[:, c.COUNT] > slot)[:, None, None])
    return mask


def compose(mask: Tensor, pattern: Tensor, ink: Tensor, paper: Tensor, grey: Tensor, g: Generator) -> Tensor:
    """Colour the masks and add uneven light, background texture, contrast and noise."""
    count = len(mask)
    jitter = uniform(g, -0.06, 0.06, count, 2, 3)
    first, second = RGB[ink] + jitter[:, 0], RGB[paper] + jitter[:, 1]
    # Grey scans: the ink's strength varies, and neither colour is tinted.
    strength = uniform(g, 0.65, 1.0, count)[:, None]
    plain_first = RGB[paper] + (RGB[ink] - RGB[paper]) * strength
    exact = (grey & chance(g, 0.6, count))[:, None]
    first = torch.where(grey[:, None], plain_first, first).clamp(0, 1)
    second = torch.where(exact, torch.where(RGB[paper] > 0.5, 1.0, 0.0), second).clamp(0, 1)
    alpha = (mask * (1 - pattern))[:, None]
    uneven = smooth_noise(g, count, 1, 4) * (uniform(g, 0, 0.1, count) * chance(g, 0.5, count))[:, None, None, None]
    back = second[:, :, None, None] + torch.where(exact[..., None, None], 0.0, uneven)
    image = back + alpha * (first[:, :, None, None] - back)
    level = uniform(g, 0.8, 1.05, count)
    noise = uniform(g, 0, 0.08, count) * chance(g, 0.5, count)
    image = image * torch.where(exact[:, 0], 1.0, level)[:, None, None, None]
    image = image + torch.randn(image.shape, generator=g) * noise[:, None, None, None]
    return image.clamp(0, 1)


def render(attributes: Int[Tensor, "batch fields"], atlas: Atlas, g: Generator) -> Float[Tensor, "batch 3 SIZE SIZE"]:
    """Images that show what the attributes say."""
    count = len(attributes)
    mask, pattern = torch.zeros(count, SIZE, SIZE), torch.zeros(count, SIZE, SIZE)
    many = attributes[:, c.COUNT] > 1
    texture = attributes[:, c.KIND] == c.IS_TEXTURE
    single = ~many & ~texture
    mask[single], q = symbol_masks(attributes[single], atlas, g)
    patterned = attributes[single, c.PATTERN] > 0
    pattern[torch.nonzero(single).flatten()[patterned]] = fill(attributes[single, c.PATTERN][patterned], q[patterned], g)
    mask[many] = count_masks(attributes[many], atlas, g)
    mask[texture] = texture_masks(attributes[texture, c.TEXTURE], g)
    pairs = torch.rand(count, len(c.COLOURS), generator=g).argsort(1)[:, :5]
    far = (RGB[pairs[:, 1:]] - RGB[pairs[:, :1]]).norm(dim=-1).argmax(1, keepdim=True) + 1
    ink = torch.where(texture, pairs[:, 0], attributes[:, c.COLOUR])
    paper = torch.where(texture, pairs.gather(1, far)[:, 0], attributes[:, c.BACKGROUND])
    neutral = (attributes[:, c.KIND] <= c.IS_LETTER) & (((ink == WHITE) & (paper == BLACK)) | ((ink == BLACK) & (paper == WHITE)))
    return compose(mask, pattern, ink, paper, neutral, g)


def batch(split: str, g: Generator, count: int, mixture: dict[str, float] = MIXTURE) -> tuple[Tensor, Tensor]:
    """Attributes [count, fields] and images [count, 3, SIZE, SIZE] drawn from a generator."""
    attributes = draw_attributes(g, count, mixture)
    return attributes, render(attributes, load_atlas(split), g)
