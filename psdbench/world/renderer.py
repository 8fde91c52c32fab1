"""Vectorised ray casting of the shapes world: analytic intersections, world-fixed light, painted faces."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from psdbench.cameras import Cameras
from psdbench.world.scenes import SHAPES, Look, Scene, place

LIGHT = torch.tensor([0.60, 0.0, 0.80])
"""from above and in front, so that left and right are mirror images"""
AMBIENT, DIFFUSE = 0.56, 0.44
CYLINDER_RADIUS = 0.66
_FAR = 1e9


def render(
    scenes: Sequence[Scene], cameras: Cameras, background: Tensor, size: int = 64, supersample: int = 2
) -> Tensor:
    """Draw one image per scene and camera, with the look of its scene.

    background: [B, 3] in [0, 1]. Returns [B, 3, size, size] in [0, 1]. Noise and blur of the look are left to
    `apply_look`, so that this function is deterministic.
    """
    rgb, alpha = render_layers(scenes, cameras, size, supersample)
    return rgb + (1 - alpha) * background[:, :, None, None]


def render_layers(
    scenes: Sequence[Scene], cameras: Cameras, size: int = 64, supersample: int = 2
) -> tuple[Tensor, Tensor]:
    """Colour premultiplied by coverage [B, 3, size, size], and coverage [B, 1, size, size]."""
    fine = size * supersample
    origins, directions = cameras.rays(fine)
    origins, directions = origins.flatten(1, 2), directions.flatten(1, 2)
    depth, normal, albedo = _nearest_hit(scenes, origins, directions)
    hit = depth < _FAR / 2
    gloss = torch.tensor([s.look.gloss for s in scenes])[:, None]
    rgb = _shade(normal, albedo, directions, gloss) * hit[..., None]
    image = torch.cat([rgb, hit[..., None].float()], -1).transpose(1, 2).unflatten(2, (fine, fine))
    image = F.avg_pool2d(image, supersample) if supersample > 1 else image
    return image[:, :3], image[:, 3:]


def _nearest_hit(
    scenes: Sequence[Scene], origins: Tensor, directions: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Depth [B, R], normal and albedo [B, R, 3] of the first surface along each ray."""
    depth = torch.full(origins.shape[:2], _FAR)
    normal, albedo = torch.zeros_like(origins), torch.zeros_like(origins)
    items = [(b, slot, thing) for b, scene in enumerate(scenes) for slot, thing in enumerate(place(scene))]
    for shape, intersect in enumerate((_box, _sphere, _cone, _cylinder)):
        for slot in (0, 1):  # the two slots of a scene never share an index, so writes below cannot collide
            group = [(b, thing) for b, s, thing in items if thing.shape == shape and s == slot]
            if not group:
                continue
            rows = torch.tensor([b for b, _ in group])
            centre = torch.tensor([t.centre for _, t in group])[:, None]
            half = torch.tensor([t.half for _, t in group])[:, None]
            local, ray = (origins[rows] - centre) / half[..., None], directions[rows]
            distance, hit_normal = intersect(local, ray)
            point = local + distance.clamp(max=_FAR)[..., None] * ray
            colour = torch.tensor([t.colour for _, t in group])[:, None].expand_as(point)
            faced = torch.tensor([t.face for _, t in group])[:, None]
            colour = _paint_face(colour, point, hit_normal, faced, SHAPES[shape])
            distance = torch.where(distance < _FAR / 2, distance * half, distance)
            closer = (distance < depth[rows])[..., None]
            depth[rows] = torch.minimum(distance, depth[rows])
            normal[rows] = torch.where(closer, hit_normal, normal[rows])
            albedo[rows] = torch.where(closer, colour, albedo[rows])
    return depth, normal, albedo


def _box(origin: Tensor, ray: Tensor) -> tuple[Tensor, Tensor]:
    """Slab test against [-1, 1]³."""
    inverse = 1 / torch.where(ray.abs() < 1e-7, torch.full_like(ray, 1e-7), ray)
    near, far = (-1 - origin) * inverse, (1 - origin) * inverse
    entry, axis = torch.minimum(near, far).max(-1)
    leave = torch.maximum(near, far).min(-1).values
    normal = -F.one_hot(axis, 3) * ray.sign()
    return torch.where((entry < leave) & (entry > 0), entry, _FAR), normal


def _sphere(origin: Tensor, ray: Tensor) -> tuple[Tensor, Tensor]:
    """Unit sphere."""
    b = (origin * ray).sum(-1)
    root = b * b - (origin * origin).sum(-1) + 1
    t = torch.where(root > 0, -b - root.clamp(min=0).sqrt(), _FAR)
    return t, origin + t.clamp(max=1e3)[..., None] * ray


def _capped(
    t: Tensor, normal: Tensor, origin: Tensor, ray: Tensor, radius: float, height: float
) -> tuple[Tensor, Tensor]:
    """Add a disc at z = height to the side surface of a body of revolution."""
    slope = torch.where(ray[..., 2].abs() < 1e-7, torch.full_like(t, 1e-7), ray[..., 2])
    disc = (height - origin[..., 2]) / slope
    point = origin + disc[..., None] * ray
    inside = (point[..., :2].square().sum(-1) < radius**2) & (disc > 0)
    disc = torch.where(inside, disc, _FAR)
    up = torch.zeros_like(normal)
    up[..., 2] = 1.0 if height > 0 else -1.0
    return torch.minimum(t, disc), torch.where((disc < t)[..., None], up, normal)


def _revolution(
    origin: Tensor, ray: Tensor, slope: float, apex: float, radius: float
) -> tuple[Tensor, Tensor]:
    """Side of x² + y² = (radius or slope·(apex − z))² for |z| ≤ 1: the cone for slope > 0, else the cylinder."""
    k = slope * slope
    rise = apex - origin[..., 2]
    a = ray[..., :2].square().sum(-1) - k * ray[..., 2].square()
    b = (origin[..., :2] * ray[..., :2]).sum(-1) + k * rise * ray[..., 2]
    c = origin[..., :2].square().sum(-1) - (k * rise.square() if slope else radius**2)
    a = torch.where(a.abs() < 1e-7, torch.full_like(a, 1e-7), a)
    root = b * b - a * c
    spread = root.clamp(min=0).sqrt()
    best = torch.full_like(a, _FAR)
    for t in ((-b - spread) / a, (-b + spread) / a):
        z = origin[..., 2] + t * ray[..., 2]
        best = torch.where((root > 0) & (t > 0) & (z.abs() <= 1), torch.minimum(best, t), best)
    point = origin + best.clamp(max=1e3)[..., None] * ray
    tilt = slope * point[..., :2].norm(dim=-1, keepdim=True)
    return best, F.normalize(torch.cat([point[..., :2], tilt], -1), dim=-1)


def _cone(origin: Tensor, ray: Tensor) -> tuple[Tensor, Tensor]:
    """Base radius 1 at z = −1, apex at z = +1."""
    t, normal = _revolution(origin, ray, slope=0.5, apex=1.0, radius=0.0)
    return _capped(t, normal, origin, ray, 1.0, -1.0)


def _cylinder(origin: Tensor, ray: Tensor) -> tuple[Tensor, Tensor]:
    """Height from −1 to +1; slim, so that its outline is not a cube's."""
    t, normal = _revolution(origin, ray, slope=0.0, apex=0.0, radius=CYLINDER_RADIUS)
    t, normal = _capped(t, normal, origin, ray, CYLINDER_RADIUS, 1.0)
    return _capped(t, normal, origin, ray, CYLINDER_RADIUS, -1.0)


def _paint_face(colour: Tensor, point: Tensor, normal: Tensor, faced: Tensor, shape: str) -> Tensor:
    """Two big eyes and a mouth, projected along −x onto the front of the object."""
    scale, drop = {"cone": (0.62, 0.42), "cylinder": (0.74, 0.0)}.get(shape, (1.0, 0.0))
    y, z = point[..., 1] / scale, (point[..., 2] + drop) / scale
    front = faced & (point[..., 0] > 0) & (normal[..., 0] > 0.15)
    eye = (y.abs() - 0.40).square() + (z - 0.24).square()
    mouth = (y.abs() < 0.44) & ((z + 0.42).abs() < 0.12)
    white, black = torch.ones(3), torch.full((3,), 0.05)
    colour = torch.where((front & (eye < 0.32**2))[..., None], white, colour)
    return torch.where((front & ((eye < 0.17**2) | mouth))[..., None], black, colour)


def _shade(normal: Tensor, albedo: Tensor, directions: Tensor, gloss: Tensor) -> Tensor:
    """Ambient and half-Lambert diffuse light, and a Blinn–Phong highlight of strength `gloss`."""
    diffuse = AMBIENT + DIFFUSE * (0.5 + 0.5 * (normal @ LIGHT))
    middle = F.normalize(LIGHT - directions, dim=-1)
    highlight = gloss * (normal * middle).sum(-1).clamp(min=0).pow(24)
    return (albedo * diffuse[..., None] + highlight[..., None]).clamp(0, 1)


def apply_look(images: Tensor, looks: Sequence[Look], generator: torch.Generator) -> Tensor:
    """Saturation, shift, blur and noise of each look, on [B, 3, H, W] in [0, 1]; same range back."""
    saturation = torch.tensor([look.saturation for look in looks])[:, None, None, None]
    grey = images.mean(1, keepdim=True)
    images = grey + (images - grey) * saturation
    images = _shifted(images, torch.tensor([look.shift for look in looks]))
    blur = [i for i, look in enumerate(looks) if look.blur > 0]
    for i in blur:
        images[i] = gaussian_blur(images[i : i + 1], looks[i].blur)[0]
    noise = torch.tensor([look.noise for look in looks])[:, None, None, None]
    return (images + noise * torch.randn(images.shape, generator=generator)).clamp(0, 1)


def _shifted(images: Tensor, shift: Tensor) -> Tensor:
    moved = shift.abs().sum(-1) > 0
    if not moved.any():
        return images
    theta = torch.eye(2, 3).repeat(int(moved.sum()), 1, 1)
    theta[:, :, 2] = -2 * shift[moved]
    grid = F.affine_grid(theta, list(images[moved].shape), align_corners=False)
    images = images.clone()
    images[moved] = F.grid_sample(images[moved], grid, padding_mode="border", align_corners=False)
    return images


def gaussian_blur(images: Tensor, sigma: float) -> Tensor:
    """Separable Gaussian blur of [B, C, H, W], border replicated."""
    reach = max(1, round(3 * sigma))
    taps = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / sigma).square())
    taps = (taps / taps.sum()).to(images)
    channels = images.shape[1]
    padded = F.pad(images, (reach,) * 4, mode="replicate")
    rows = F.conv2d(padded, taps.view(1, 1, 1, -1).expand(channels, 1, 1, -1), groups=channels)
    return F.conv2d(rows, taps.view(1, 1, -1, 1).expand(channels, 1, -1, 1), groups=channels)
