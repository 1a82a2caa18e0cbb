"""APGD, FAB, Square, transfer and noise: held to what their papers promise, on a small smooth network."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from advlora.attacks import Case, Threat, margin, objective, withstands
from advlora.attacks.apgd import apgd, checkpoints
from advlora.attacks.fab import to_plane
from advlora.attacks.objectives import likely_targets
from advlora.attacks.square import _bump, edge, square
from advlora.attacks.transfer import _shaken, _views
from advlora.randomness import Streams
from tests.advlora.short_trials import evaluation_attack

pytestmark = pytest.mark.unit

COUNT, EPSILON = 40, 0.03
STREAMS = Streams.of(0, "examination", samples=torch.arange(COUNT))
SINGLE = [
    {"kind": "fgsm"},
    {"kind": "apgd-ce", "steps": 10},
    {"kind": "apgd-dlr", "steps": 10},
    {"kind": "apgd-t", "steps": 10},
    {"kind": "apgd", "loss": "margin", "steps": 10},
    {"kind": "fab", "steps": 10},
    {"kind": "fab-t", "steps": 10},
    {"kind": "square", "steps": 150},
    {"kind": "mi", "source": "model"},
    {"kind": "di", "source": "model"},
]


def network(seed):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Flatten(), nn.Linear(192, 32), nn.GELU(), nn.Linear(32, 5))


@pytest.fixture
def net():
    return network(1)


@pytest.fixture
def images():
    return torch.rand(COUNT, 3, 8, 8, generator=torch.Generator().manual_seed(5))


@pytest.fixture
def labels(net, images):
    return net(images).argmax(1)


def withstood(net, images, labels, epsilon=EPSILON, streams=STREAMS, surrogate=None, **values):
    return withstands(net, images, labels, evaluation_attack(**values), epsilon, streams, surrogate)


def case(net, images, labels, norm="linf", epsilon=EPSILON):
    return Case(net, images, labels, Threat(norm, epsilon), STREAMS[: len(images)])


@pytest.mark.parametrize("values", SINGLE, ids=lambda values: values["kind"])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_every_attack_breaks_more_than_noise_and_more_in_a_larger_ball(net, images, labels, values, norm):
    epsilon = EPSILON if norm == "linf" else 0.4
    noise = withstood(net, images, labels, epsilon, kind="noise", norm=norm)
    small = withstood(net, images, labels, epsilon, norm=norm, **values)
    large = withstood(net, images, labels, 4 * epsilon, norm=norm, **values)
    assert small.sum() < noise.sum() <= COUNT
    assert large.sum() < small.sum()


@pytest.mark.parametrize("values", SINGLE, ids=lambda values: values["kind"])
def test_an_image_fares_alike_in_any_batch(net, images, labels, values):
    whole = withstood(net, images, labels, **values)
    parts = [
        withstood(net, images[i : i + 7], labels[i : i + 7], streams=STREAMS[i : i + 7], **values)
        for i in range(0, COUNT, 7)
    ]
    assert torch.equal(torch.cat(parts), whole)


@pytest.mark.parametrize("values", SINGLE, ids=lambda values: values["kind"])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_no_visited_point_that_counts_lies_outside_the_ball_or_the_pixel_range(images, norm, values):
    """A model that is wrong only outside the ball, or outside [0, 1], withstands every attack."""
    epsilon = EPSILON if norm == "linf" else 0.4
    threat = Threat(norm, epsilon)
    reference = images[:1]

    def classify(points):
        outside = threat.size(points - reference) > epsilon * (1 + 1e-5)
        beyond = (points.amax((1, 2, 3)) > 1) | (points.amin((1, 2, 3)) < 0)
        slope = (points - reference).mean((1, 2, 3))
        wrong = torch.where(outside | beyond, 10.0, 0.0)
        return torch.stack([1 + 0 * slope, 0.5 + 0.1 * slope + wrong, 0.2 - 0.1 * slope, 0 * slope], dim=1)

    assert withstood(classify, reference, torch.tensor([0]), epsilon, STREAMS[:1], norm=norm, **values).all()


def test_autopgd_beats_plain_pgd_of_as_many_steps(net, images, labels):
    plain = withstood(net, images, labels, steps=20, step_size=EPSILON / 4)
    adaptive = withstood(net, images, labels, kind="apgd-ce", steps=20)
    targeted = withstood(net, images, labels, kind="apgd-t", steps=20)
    assert adaptive.sum() <= plain.sum()
    assert targeted.sum() <= plain.sum()


def test_the_checkpoints_are_those_of_the_paper():
    assert sorted(checkpoints(100)) == [22, 41, 57, 70, 80, 87, 93, 99]
    assert max(checkpoints(5)) <= 5


def test_autopgd_halves_its_step_where_it_oscillates():
    """On the tip of a cone every step of twice the radius overshoots; only smaller ones can come near."""
    image, tip = torch.full((1, 3, 8, 8), 0.5), 0.5 + 0.013
    seen = []

    def classify(points):
        seen.append(float((points - tip).abs().mean()))
        return torch.stack([0 * points.mean((1, 2, 3)) + 5, -(points - tip).abs().mean((1, 2, 3))], dim=1)

    assert apgd(case(classify, image, torch.tensor([0])), "margin", 100).all()
    assert min(seen) < 0.1 * min(seen[:20])


def test_the_dlr_losses_are_those_of_the_paper():
    logits, labels = torch.tensor([[3.0, 1.0, 2.0, 0.0], [1.0, 5.0, 4.0, 2.0]]), torch.tensor([0, 2])
    assert objective("dlr", logits, labels).tolist() == pytest.approx([-(3 - 2) / (3 - 1), -(4 - 5) / (5 - 2)])
    aimed = objective("dlr_targeted", logits, labels, torch.tensor([3, 0]))
    assert aimed.tolist() == pytest.approx([-(3 - 0) / (3 - 0.5), -(4 - 1) / (5 - 1.5)])
    assert torch.allclose(objective("dlr", 7 * logits, labels), objective("dlr", logits, labels))
    assert torch.equal(objective("cross_entropy", logits, labels), cross_entropy(logits, labels, reduction="none"))


def test_three_classes_suffice_for_the_targeted_loss_and_two_rivals_are_all_there_are():
    logits, labels = torch.tensor([[3.0, 1.0, 2.0]]), torch.tensor([0])
    assert likely_targets(logits, labels, 9).tolist() == [[2, 1]]
    assert objective("dlr_targeted", logits, labels, torch.tensor([2])).tolist() == pytest.approx([-(3 - 2) / (3 - 1)])


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_step_to_a_plane_is_the_shortest_within_the_pixel_range(images, norm):
    optimise = pytest.importorskip("scipy.optimize")
    threat, points = Threat(norm, 1.0), images[:6, :, :2, :2]
    normal = torch.randn(points.shape, generator=torch.Generator().manual_seed(2))
    for gap in (0.5, -0.7, 2.0):
        move = to_plane(points, normal, torch.full((6,), gap), threat)
        assert torch.allclose((normal * move).sum((1, 2, 3)), torch.full((6,), gap), atol=1e-4)
        assert (points + move).min() > -1e-6
        assert (points + move).max() < 1 + 1e-6
        for point, slope, length in zip(points.flatten(1), normal.flatten(1), threat.size(move), strict=True):
            assert float(length) == pytest.approx(shortest(optimise, point, slope, gap, norm), rel=1e-2)


def shortest(optimise, point, slope, gap, norm):
    point, slope, count = point.double().numpy(), slope.double().numpy(), len(point)
    if norm == "l2":
        found = optimise.minimize(
            lambda d: (d**2).sum(),
            0 * point,
            jac=lambda d: 2 * d,
            bounds=list(zip(-point, 1 - point, strict=True)),
            constraints={"type": "eq", "fun": lambda d: slope @ d - gap, "jac": lambda d: slope},
        )
        return found.fun**0.5
    cost = [0.0] * count + [1.0]
    bound = [[(1.0 if i == j else 0.0) * sign for j in range(count)] + [-1.0] for i in range(count) for sign in (1, -1)]
    limits = [*zip(-point, 1 - point, strict=True), (0, None)]
    return optimise.linprog(cost, bound, [0] * 2 * count, [[*slope, 0.0]], [gap], limits).fun


def test_a_plane_out_of_reach_sends_every_pixel_to_its_bound(images):
    points = images[:2]
    move = to_plane(points, torch.ones_like(points), torch.full((2,), 1e6), Threat("linf", 1.0))
    assert torch.allclose(points + move, torch.ones_like(points))


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_fab_finds_the_boundary_of_a_linear_model_at_its_true_distance(images, norm):
    weight = torch.randn(2, 192, generator=torch.Generator().manual_seed(0))
    middle = 0.5 + 0.1 * (images[:8] - 0.5)

    def classify(points):
        return (points.flatten(1) - 0.5) @ weight.T

    labels = classify(middle).argmax(1)
    difference = (weight[0] - weight[1]).view(1, 3, 8, 8)
    distance = margin(classify(middle), labels).abs() / Threat(norm, 1.0).dual(difference)
    for factor, expected in ((1.02, False), (0.98, True)):
        kept = [
            withstood(classify, middle[i : i + 1], labels[i : i + 1], factor * float(distance[i]), STREAMS[i : i + 1],
                      kind="fab", norm=norm, steps=30)
            for i in range(8)
        ]  # fmt: skip
        assert torch.equal(torch.cat(kept), torch.full((8,), expected))


def test_square_needs_no_gradient_and_a_longer_search_continues_a_shorter_one(net, images, labels):
    @torch.no_grad()
    def blind(points):
        return net(points.round(decimals=6))

    short, long = (withstood(blind, images, labels, kind="square", steps=steps) for steps in (30, 150))
    assert (long <= short).all()
    assert long.sum() < short.sum() < COUNT
    assert torch.equal(short, withstood(net, images, labels, kind="square", steps=30))


def test_the_squares_shrink_and_the_l2_update_has_unit_length():
    assert [edge(query, 28) for query in (0, 11, 51, 201, 4001)] == [25, 18, 13, 9, 2]
    assert edge(9999, 8) == 1
    for side in (3, 5, 8):
        assert _bump(side).norm() == pytest.approx(1.0)


def test_square_asks_no_more_than_its_queries(net, images, labels):
    asked = []

    def counting(points):
        asked.append(len(points))
        return net(points)

    square(case(counting, images, labels), 20)
    assert len(asked) <= 21
    assert asked[-1] < asked[0]


def test_a_transfer_attack_follows_the_surrogate_and_never_asks_the_model(net, images, labels):
    asked = []

    def watched(points):
        asked.append(points.requires_grad)
        return net(points)

    near, far = withstood(watched, images, labels, kind="mi", surrogate=net), network(9)
    assert asked == [False]
    other = withstood(net, images, labels, kind="mi", surrogate=far)
    assert torch.equal(near, withstood(net, images, labels, kind="mi", source="model"))
    assert near.sum() < other.sum()


def test_input_diversity_leaves_half_of_the_images_alone_and_never_grows_them(net, images, labels):
    views = _views(case(net, images, labels), step=0)
    same = (views - torch.tensor([[1.0, 0, 0], [0, 1, 0]])).abs().amax((1, 2)) < 1e-6
    assert 0.25 < same.float().mean() < 0.75
    shown = []
    _shaken(lambda points: shown.append(points), views)(torch.ones_like(images))
    assert torch.allclose(shown[0][same], torch.ones_like(images[same]), atol=1e-5)
    share = shown[0][~same].mean((1, 2, 3))
    assert (share < 1).all()
    assert (share > 0.75).all()


def test_noise_breaks_what_lies_at_the_boundary_only(net, images, labels):
    assert withstood(net, images, labels, 1e-4, kind="noise").float().mean() > 0.9


@pytest.mark.parametrize("values", SINGLE, ids=lambda values: values["kind"])
def test_a_model_without_gradients_is_searched_not_refused(net, images, labels, values):
    kept = withstood(lambda points: net(points.detach()), images[:4], labels[:4], streams=STREAMS[:4], **values)
    assert kept.shape == (4,)


@pytest.mark.parametrize("values", SINGLE, ids=lambda values: values["kind"])
def test_an_empty_batch_is_no_problem(net, images, labels, values):
    assert withstood(net, images[:0], labels[:0], streams=STREAMS[:0], **values).shape == (0,)
