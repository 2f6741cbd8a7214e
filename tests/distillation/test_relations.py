"""Relation losses against their definitions, written out as loops over differences of vectors."""

import math

import pytest
import torch
from loss_cases import mask_of
from torch import Tensor

from internal_kd.distillation.losses import attention_kl, layer_relation, relation_kl, rkd, word_relation
from internal_kd.errors import UserError


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def gradient(loss: Tensor, student: Tensor) -> Tensor:
    return torch.autograd.grad(loss, student, retain_graph=True)[0]


def agree(ours: Tensor, direct: Tensor, student: Tensor) -> None:
    """The same value, and the same gradient in the student."""
    assert ours.item() == pytest.approx(direct.item(), rel=1e-5, abs=1e-9)
    if direct.requires_grad:
        expected = gradient(direct, student)
        assert torch.allclose(
            gradient(3 * ours, student) / 3, expected, rtol=1e-3, atol=1e-6 + 1e-4 * expected.abs().max()
        )


def divergence(student: list[Tensor], teacher: list[Tensor]) -> Tensor:
    ours, theirs = torch.stack(student).log_softmax(-1), torch.stack(teacher).log_softmax(-1)
    return (theirs.exp() * (theirs - ours)).sum()


def cosine(a: Tensor, b: Tensor) -> Tensor:
    return a @ b / (a.norm() * b.norm())


def angle(i: Tensor, j: Tensor, k: Tensor) -> Tensor:
    return cosine(j - i, k - i)


def mean(values: list[Tensor]) -> Tensor:
    return torch.stack(values).mean() if values else torch.zeros((), dtype=torch.float64)


def set_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Vectors (n, width): KL of the softmax of each one's cosines with the others."""
    rows = []
    for i in range(len(student)):
        others = [j for j in range(len(student)) if j != i]
        if others:
            rows.append(divergence(*([cosine(side[i], side[j]) for j in others] for side in (student, teacher))))
    return mean(rows)


def set_angle(student: Tensor, teacher: Tensor, window: int = 99) -> Tensor:
    """Vectors (n, width): squared error of the angle at i between two others near it."""
    errors = []
    for i in range(len(student)):
        near = [j for j in range(len(student)) if 0 < abs(i - j) <= window]
        for j in near:
            for k in near:
                if j != k:
                    errors.append(
                        (angle(student[i], student[j], student[k]) - angle(teacher[i], teacher[j], teacher[k])).square()
                    )
    return mean(errors)


# Words


@pytest.mark.parametrize("window", [1, 2, 3, 10])
def test_word_relation_by_products_is_that_by_differences(window: int) -> None:
    lengths = [7, 5, 2, 1]
    student, teacher = drawn(1, 4, 7, 6).requires_grad_(), drawn(2, 4, 7, 9)
    distance, angles = word_relation(student, teacher, mask_of(lengths, 7), window=window)
    sides = [(student[b, :n].double(), teacher[b, :n].double()) for b, n in enumerate(lengths)]
    agree(distance, mean([set_distance(*side) for side in sides]), student)
    agree(angles, mean([set_angle(*side, window) for side in sides]), student)


def test_the_distance_of_words_ignores_the_window() -> None:
    student, teacher, mask = drawn(1, 1, 30, 6), drawn(2, 1, 30, 6), torch.ones(1, 30)
    near, far = word_relation(student, teacher, mask, window=1), word_relation(student, teacher, mask, window=29)
    assert near[0].equal(far[0]) and not near[1].equal(far[1])


def test_left_padding_moves_no_window() -> None:
    student, teacher = drawn(1, 1, 6, 5), drawn(2, 1, 6, 5)
    shifted = [torch.nn.functional.pad(side, (0, 0, 3, 0), value=math.nan) for side in (student, teacher)]
    expected = word_relation(student, teacher, torch.ones(1, 6), window=2)
    found = word_relation(*shifted, torch.tensor([[0, 0, 0, 1, 1, 1, 1, 1, 1]]), window=2)
    assert torch.stack(found).tolist() == pytest.approx(torch.stack(expected).tolist(), rel=1e-6)


def test_words_that_nearly_point_the_same_way_keep_their_angles() -> None:
    common = 10 * drawn(0, 1, 1, 64)
    student, teacher = common + 0.5 * drawn(1, 1, 12, 64), common + 0.5 * drawn(2, 1, 12, 64)
    found = word_relation(student, teacher, torch.ones(1, 12), window=3)[1]
    assert found.item() == pytest.approx(set_angle(student[0].double(), teacher[0].double(), 3).item(), rel=1e-3)


def test_turning_scaling_and_widening_change_no_relation() -> None:
    hidden, mask = drawn(1, 2, 6, 8), mask_of([6, 4], 6)
    turn = torch.linalg.qr(drawn(2, 12, 12))[0][:8]
    distance, angles = word_relation(3 * hidden @ turn, hidden, mask)
    assert distance.item() == pytest.approx(0, abs=1e-6) and angles.item() == pytest.approx(0, abs=1e-6)


def test_angles_do_not_see_what_all_words_share_but_cosines_do() -> None:
    hidden, mask = drawn(1, 1, 6, 8), torch.ones(1, 6)
    distance, angles = word_relation(hidden + drawn(2, 8), hidden, mask)
    assert angles.item() == pytest.approx(0, abs=1e-6) and distance.item() > 1e-3


def test_words_that_are_equal_have_no_direction_to_each_other() -> None:
    student, teacher = drawn(1, 1, 4, 6), drawn(2, 1, 4, 6)
    student[0, 1] = student[0, 0]
    found = word_relation(student, teacher, torch.ones(1, 4))[1]
    unit = torch.nn.functional.normalize
    errors = []
    for i in range(4):
        directions = [unit(side[0].double() - side[0, i].double(), dim=-1) for side in (student, teacher)]
        others = torch.tensor([j for j in range(4) if j != i])
        cosines = [(side[others] @ side[others].T)[~torch.eye(3, dtype=torch.bool)] for side in directions]
        errors.append((cosines[0] - cosines[1]).square().mean())
    assert found.item() == pytest.approx(mean(errors).item(), rel=1e-5)


def test_what_fp32_does_not_tell_apart_moves_nothing() -> None:
    student = (drawn(1, 1, 1, 64) + 1e-5 * drawn(2, 1, 8, 64)).requires_grad_()
    assert gradient(word_relation(student, drawn(3, 1, 8, 64), torch.ones(1, 8))[1], student).abs().max() == 0


# Levels


@pytest.mark.parametrize("levels", [1, 2, 3, 5])
def test_layer_relation_by_products_is_that_by_differences(levels: int) -> None:
    lengths = [4, 2, 1]
    student, teacher = drawn(1, 3, levels, 4, 6).requires_grad_(), drawn(2, 3, levels, 4, 9)
    distance, angles = layer_relation(student, teacher, mask_of(lengths, 4))
    for found, direct in ((distance, set_distance), (angles, set_angle)):
        examples = [
            mean([direct(student[b, :, i].double(), teacher[b, :, i].double()) for i in range(n)])
            for b, n in enumerate(lengths)
        ]
        agree(found, mean(examples), student)


# Queries, keys, values


def test_relation_kl_is_that_of_scaled_products() -> None:
    lengths, heads = [5, 2], 3
    student, teacher = drawn(1, 2, 5, 6).requires_grad_(), drawn(2, 2, 5, 12)
    examples = []
    for b, n in enumerate(lengths):
        rows = []
        for head in range(heads):
            sides = [side[b, :n].double().chunk(heads, -1)[head] for side in (student, teacher)]
            scores = [side @ side.T / math.sqrt(side.shape[-1]) for side in sides]
            rows += [divergence([*scores[0][i]], [*scores[1][i]]) for i in range(n)]
        examples.append(mean(rows))
    agree(relation_kl(student, teacher, mask_of(lengths, 5), heads), mean(examples), student)


def test_with_as_many_heads_as_the_models_it_is_the_value_relation_of_minilm() -> None:
    heads, width, mask = 4, 5, mask_of([6, 3], 6)
    student, teacher = drawn(1, 2, 6, heads * width), drawn(2, 2, 6, heads * width)

    def value_relation(values: Tensor) -> Tensor:
        by_head = values.view(2, 6, heads, width).transpose(1, 2)
        scores = by_head @ by_head.mT / math.sqrt(width)
        return scores.masked_fill(mask[:, None, None] == 0, -math.inf).log_softmax(-1)

    expected = attention_kl(value_relation(student), value_relation(teacher), mask)
    assert relation_kl(student, teacher, mask, heads).item() == pytest.approx(expected.item(), rel=1e-5)


# Examples


def rkd_by_differences(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    batch = len(student)
    distances, angles = [], []
    for side in (student, teacher):
        apart = torch.stack([(side[i] - side[j]).norm() for i in range(batch) for j in range(batch) if i != j])
        distances.append(torch.cat([apart / apart.mean(), apart.new_zeros(batch)]))
        units = torch.nn.functional.normalize(side[None] - side[:, None], dim=-1)
        angles.append(units @ units.mT)
    loss = torch.nn.functional.smooth_l1_loss
    return loss(*distances), loss(*angles)


def test_rkd_by_products_is_that_by_differences() -> None:
    student, teacher = drawn(1, 6, 5).requires_grad_(), drawn(2, 6, 9)
    expected = rkd_by_differences(student.double(), teacher.double())
    for found, direct in zip(rkd(student, teacher), expected, strict=True):
        agree(found, direct, student)


def test_rkd_of_opposite_angles_is_linear_not_square() -> None:
    # Three points on a line, the middle one swapped: cosines differ by 2.
    student, teacher = torch.tensor([[0.0], [1.0], [2.0]]), torch.tensor([[1.0], [0.0], [2.0]])
    expected = rkd_by_differences(student.double(), teacher.double())
    assert rkd(student, teacher)[1].item() == pytest.approx(expected[1].item(), rel=1e-6)


def test_examples_alike_have_no_distance_and_no_direction() -> None:
    student = torch.ones(3, 4, requires_grad=True)
    distance, angles = rkd(student, drawn(2, 3, 4))
    assert gradient(distance + angles, student).abs().sum() == 0 and distance.item() > 0 and angles.item() > 0


# Errors


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: relation_kl(torch.zeros(1, 3, 8), torch.zeros(1, 3, 12), torch.ones(1, 3), 3), "width of 8"),
        (lambda: relation_kl(torch.zeros(1, 3, 8), torch.zeros(1, 3, 6), torch.ones(1, 3), 4), "width of 6"),
        (lambda: relation_kl(torch.zeros(1, 3, 8), torch.zeros(1, 3, 8), torch.ones(1, 3), 0), "0 relation heads"),
        (lambda: relation_kl(torch.zeros(1, 3, 8), torch.zeros(1, 4, 8), torch.ones(1, 3), 2), "(1, 4, 8)"),
        (lambda: word_relation(torch.zeros(1, 3, 8), torch.zeros(1, 3, 8), torch.ones(1, 4)), "(1, 4)"),
        (lambda: word_relation(torch.zeros(1, 3, 8), torch.zeros(1, 3, 8), torch.ones(1, 3), 0), "window is 0"),
        (lambda: layer_relation(torch.zeros(1, 2, 3, 8), torch.zeros(1, 3, 3, 8), torch.ones(1, 3)), "(1, 3, 3, 8)"),
        (lambda: rkd(torch.zeros(2, 8), torch.zeros(3, 8)), "(3, 8)"),
    ],
)
def test_what_does_not_fit_is_named(call, named: str) -> None:
    with pytest.raises(UserError) as error:
        call()
    assert named in str(error.value) and "\n" not in str(error.value)


def test_memory_follows_the_window_not_the_width() -> None:
    # (length, window, width) numbers would be 4 million here, 16 times what is allocated at most.
    allocated: list[int] = []

    class Largest(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            out = function(*args, **(kwargs or {}))
            allocated.extend(
                x.untyped_storage().nbytes() // 4
                for x in (out if isinstance(out, tuple | list) else [out])
                if isinstance(x, Tensor)
            )
            return out

    student, teacher = drawn(1, 1, 96, 2048).requires_grad_(), drawn(2, 1, 96, 2048)
    with Largest():
        sum(word_relation(student, teacher, torch.ones(1, 96), window=10)).backward()  # type: ignore[union-attr]
    assert max(allocated) <= 96 * 2048 + 1 < 96 * 21 * 2048 / 16
