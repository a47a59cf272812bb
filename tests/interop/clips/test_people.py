"""Who is there: people whose joints spread, in any units."""

import pytest
import torch

from slim_fast.interop.clips.people import find_present_people, zero_undetected


def bodies(scale: float = 1.0, offset: float = 0.0) -> torch.Tensor:
    """(3, 3, 8, 5, 2), two people."""
    return scale * (torch.randn(3, 3, 8, 5, 2) + offset)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])  # kilometres, metres, millimetres
@pytest.mark.parametrize("offset", [0.0, 30.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_units_and_places_do_not_matter(scale, offset, dtype):
    x = bodies(scale, offset)
    x[0, ..., 1] = 0
    x[1, ..., 1] = x[1, :, :1, :1, 1]  # one point, that does not move
    x[2, ..., 0] = x[2, :, :, :1, 1]  # one point, that goes about
    assert find_present_people(x.to(dtype), "xyz").tolist() == [
        [True, False],
        [True, False],
        [False, True],
    ]


def test_a_speck_beside_somebody_is_nobody():
    """Bones of an absent person are 1e-5 long after SkateFormer's bone augmentation: joints are at
    up to 3e-5.
    """
    x = bodies()
    x[..., 1] *= 1e-5
    assert find_present_people(x, "xyz").tolist() == [[True, False]] * 3
    assert find_present_people(
        x[..., 1:], "xyz"
    ).all()  # nothing to compare with: units are not known
    x[..., 1] += x[:, :, :1, :1, 0]
    assert find_present_people(x, "xyz").tolist() == [[True, False]] * 3
    # a child far away in a picture
    assert find_present_people(bodies() * torch.tensor([1.0, 0.01]), "xyz").all()


def test_one_point_is_nobody_however_it_was_rounded():
    point = torch.tensor([3.1, -2.7, 4.9]).view(1, 3, 1, 1, 1).expand(1, 3, 8, 25, 1)
    turn = torch.linalg.qr(torch.randn(25, 3, 3, dtype=torch.float64)).Q
    there_and_back = torch.einsum("vij,vkj,nktvm->nitvm", turn, turn, point.double())
    for x in (point, there_and_back, there_and_back.float()):
        assert not find_present_people(x, "xyz").any()


def test_one_frame_and_one_joint_are_enough():
    x = torch.zeros(2, 3, 8, 5, 1)
    x[0, 1, 3, 2] = 0.4
    assert find_present_people(x, "xyz").tolist() == [[True], [False]]
    # a skeleton of one joint
    assert find_present_people(x[:, :, :, 2:3], "xyz").tolist() == [[True], [False]]


def test_a_confidence_is_no_coordinate_and_one_of_zero_is_no_joint():
    x = torch.zeros(1, 3, 8, 17, 2)
    x[:, 2] = torch.rand(8, 17, 1)
    assert not find_present_people(x, "xyc").any()
    # mmaction2's empty place after its normalisation, beside somebody two of whose joints were not
    # seen
    x = torch.rand(1, 3, 8, 17, 2) + 0.1
    x[:, :2, ..., 1], x[:, 2, ..., 1] = -1, 0
    x[:, :2, :, 3:5, 0], x[:, 2, :, 3:5, 0] = -1, 0
    assert find_present_people(x, "xyc").tolist() == [[True, False]]
    clean = zero_undetected(x, "xyc")
    assert find_present_people(clean, "xyc").tolist() == [[True, False]]
    assert not clean[..., 1].any()
    assert not clean[:, :, :, 3:5].any()
    assert torch.equal(clean[:, :, :, 5:, 0], x[:, :, :, 5:, 0])
    assert zero_undetected(x, "xyz") is x


def test_what_is_not_finite_answers_so_and_hides_nobody():
    x = bodies()
    x[0, 0, 0, 0, 0], x[1, 0, 0, 0, 0] = torch.nan, torch.inf
    x[2, ..., 1] = 0
    assert find_present_people(x, "xyz").tolist() == [[True, True], [True, True], [True, False]]


@pytest.mark.parametrize("shape", [(0, 3, 8, 5, 2), (2, 3, 8, 5, 0)])
def test_of_nobody(shape):
    assert find_present_people(torch.zeros(shape), "xyz").shape == (shape[0], shape[4])


def test_encoders_skip_points_and_unseen_joints_are_zeros(make_encoder):
    encoder = make_encoder(17, "xyc")
    x = torch.rand(2, 3, 16, 17, 2) + 0.1
    x[:, 2, :, 3] = 0
    x[..., 1] = torch.tensor([-1.0, -1.0, 0.0]).view(3, 1, 1)
    moved = x.clone()
    moved[:, :2, :, 3] = 0.7
    moved[..., 1] = 0
    out = encoder.forward_features(x)
    assert out["people"].tolist() == [[True, False]] * 2
    assert torch.equal(out["x_prenorm"], encoder.forward_features(moved)["x_prenorm"])
