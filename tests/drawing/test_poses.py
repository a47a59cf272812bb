"""Stick figures: projection, contact sheets and views."""

import math
from dataclasses import replace

import numpy as np
import pytest

from slim_fast import drawing
from slim_fast.data import CacheWriter, ClipCache, inspection
from slim_fast.data.clips import Clip
from slim_fast.drawing import sheet, style
from slim_fast.drawing.poses import ELEVATION, project
from slim_fast.drawing.stick_figures import StickFigures, joint_sides, person_colours
from slim_fast.skeletons import get_topology, topology_names
from tests.drawing.conftest import NTU, clip

pytest.importorskip("matplotlib")


@pytest.mark.parametrize("up", ["y", "-y", "z", "-z"])
def test_one_pose_looks_the_same_in_every_coordinate_system(up):
    pose = clip()[0, :, :, 0].astype(np.float64)  # x right, y up, z towards the viewer
    x, y, z = pose.T
    turned = {"y": (x, y, z), "-y": (x, -y, -z), "z": (x, -z, y), "-z": (x, z, -y)}[up]
    seen = project(np.stack(turned, axis=-1), replace(NTU, up=up))
    np.testing.assert_allclose(seen, project(pose, NTU), atol=1e-12)
    higher = project(pose + np.array([0, 1, 0]), NTU) - project(pose, NTU)
    np.testing.assert_allclose(
        higher, np.broadcast_to([0, math.cos(ELEVATION)], higher.shape), atol=1e-12
    )


def test_planar_coordinates_are_drawn_as_they_are():
    pose = clip(channels=2)[0, :, :, 0]
    np.testing.assert_allclose(project(pose, NTU), pose, rtol=1e-6)
    np.testing.assert_allclose(project(pose, replace(NTU, up="-y")), pose * [1, -1], rtol=1e-6)
    with_confidence = np.concatenate([pose, np.ones((25, 1))], axis=-1)
    np.testing.assert_allclose(project(with_confidence, NTU, "xyc"), pose, rtol=1e-6)


def test_absent_people_and_unseen_joints_are_left_out():
    poses = clip(people=2)[:3].transpose(0, 3, 1, 2).copy()
    poses[1, 1] = 0
    poses[2, 0, 7, 1] = np.nan
    gone = np.isnan(project(poses, NTU)).any(-1)
    assert gone[1, 1].all()
    assert np.argwhere(gone[[0, 2]]).tolist() == [[1, 0, 7]]
    confident = np.concatenate([clip()[..., 0], np.ones((20, 25, 1))], axis=-1)
    confident[3, 4, 3] = 0
    assert np.argwhere(np.isnan(project(confident, NTU, "xyzc")).any(-1)).tolist() == [[3, 4]]


def test_nothing_drawable_still_makes_a_picture(tmp_path):
    assert drawing.contact_sheet(
        [np.zeros((4, 25, 3, 2))], NTU, ["empty"], tmp_path / "a.png"
    ).exists()
    assert drawing.contact_sheet(
        [np.full((4, 25, 3), np.nan)], NTU, ["nan"], tmp_path / "b.png"
    ).exists()


@pytest.mark.parametrize("name", topology_names())
def test_figures_have_two_equal_sides_and_a_bone_less_than_joints(name):
    topology = get_topology(name)
    sides = joint_sides(topology)
    assert sides.count("left") == sides.count("right") > 0
    assert all(
        (sides[j] == "trunk") == (topology.mirror[j] == j) for j in range(topology.num_joints)
    )
    drawn = StickFigures(sides, topology.bones)
    drawn.add_person(clip(topology)[0, :, :2, 0], np.zeros(topology.num_joints, bool), 0)
    assert len(drawn.lines) == topology.num_joints - 1
    assert sum(map(len, drawn.dots.values())) == topology.num_joints


def test_masked_joints_are_hollow_and_their_bones_pale():
    masked = np.zeros(25, bool)
    # right wrist and hand: bones elbow-wrist, wrist-hand, hand-tip, hand-thumb
    masked[[10, 11]] = True
    drawn = StickFigures(joint_sides(NTU), NTU.bones)
    joints = clip()[0, :, :2, 0]
    drawn.add_person(joints, masked, 0)
    np.testing.assert_array_equal(drawn.dots["white", style.FAINT, 7.0], joints[[10, 11]])
    assert sum(colour == style.PALE for _, colour, _ in drawn.lines) == 4


def test_all_poses_stay_inside_their_cells():
    row = sheet.Row(
        "", list(project(clip(frames=6, people=2).transpose(0, 3, 1, 2), NTU)), [""] * 6
    )
    scale = sheet._scale(row)
    spans = np.stack(row.poses)
    assert scale * max(np.ptp(pose[..., 0]) for pose in row.poses) <= sheet.CELL_WIDTH
    assert scale * np.ptp(spans[..., 1]) <= sheet.CELL_HEIGHT


def drawn_in_cells(figure):
    """(offsets of all dots, x of the borders between frames) of a sheet, in inches."""
    axes = figure.axes[0]
    dots = np.concatenate(
        [np.asarray(c.get_offsets()) for c in axes.collections if not hasattr(c, "get_segments")]
    )
    upright = [
        line.get_xdata()[0] for line in axes.lines if line.get_xdata()[0] == line.get_xdata()[1]
    ]
    return dots, np.array(upright)


@pytest.mark.parametrize(("people", "apart"), [(2, 1.0), (3, 2.0), (5, 1.5), (7, 0.5), (2, 30.0)])
def test_each_frame_s_people_stay_inside_its_place(people, apart, tmp_path, figures):
    clips = (
        clip(frames=60, people=people) * 0.4 + np.arange(people) * np.array([apart, 0, 0])[:, None]
    )
    drawing.contact_sheet([clips], NTU, ["a"], tmp_path / "a.png")
    dots, borders = drawn_in_cells(figures[0])
    assert len(borders) in (3, 7)
    place = 8 * sheet.CELL_WIDTH / (len(borders) + 1)
    left = sheet.MARGIN + sheet.TITLE_WIDTH
    np.testing.assert_allclose(borders, left + place * np.arange(1, len(borders) + 1))
    frame = ((dots[:, 0] - left) / place).astype(int)
    assert np.bincount(frame).tolist() == [people * 25] * (len(borders) + 1)
    assert np.abs(dots[:, :1] - borders).min() > sheet.MARGIN / 2


def test_people_far_apart_get_wider_places_and_nobody_else():
    poses = project(clip(frames=8).transpose(0, 3, 1, 2), NTU)
    assert sheet.cells_needed(list(poses), 2) == 1
    beside = np.concatenate([poses, poses + np.array([99, 0])], axis=1)
    assert sheet.cells_needed(list(beside), 2) == 2
    assert sheet.cells_needed(list(beside), 8) == 8
    lying = poses[..., ::-1] * [1, 0.1]
    assert sheet.cells_needed(list(lying), 2) == 1


def test_undetected_joints_and_the_bones_to_them_are_not_drawn(tmp_path, figures):
    lost = clip(frames=8) + 10
    lost[:, 4:8] = 0
    drawing.contact_sheet([lost], NTU, ["a"], tmp_path / "a.png")
    drawing.draw_views([lost[..., 0]], [None], NTU, ["a"], tmp_path / "b.png")
    bones = sum(not {4, 5, 6, 7} & set(bone) for bone in NTU.bones)
    for figure, poses in zip(figures, (8, 1), strict=True):
        assert len(drawn_in_cells(figure)[0]) == poses * 21
        assert sum(
            len(c.get_segments()) for c in figure.axes[0].collections if hasattr(c, "get_segments")
        ) == (poses * bones)


def test_everybody_has_a_colour_that_the_legend_names(tmp_path, figures):
    drawing.contact_sheet([clip(people=3) * 0.1 + np.arange(3)], NTU, ["a"], tmp_path / "a.png")
    names = [text.get_text() for text in figures[0].axes[0].get_legend().get_texts()]
    assert names == ["left side", "right side", "trunk", "person 2", "person 3"]
    sides = joint_sides(NTU)
    colours = [set(person_colours(sides, person)) for person in range(5)]
    assert not any(colours[i] & colours[j] for i in range(5) for j in range(i))


def test_a_cache_s_sheet_heads_each_row_with_the_class(tmp_path, figures):
    with CacheWriter(tmp_path / "cache", NTU, "xyz", ["hand wave", "clap"], "made") as writer:
        for number, label in enumerate((0, 1, -1)):
            writer.add(Clip(clip(), f"S00{number}", label))
    inspection.draw_cache(ClipCache.open(tmp_path / "cache"), tmp_path / "a.png")
    words = [text.get_text() for text in figures[0].axes[0].texts]
    assert [word for word in words if word in ("hand wave", "clap", "S000", "S001", "S002")] == [
        "hand wave",
        "S000",
        "clap",
        "S001",
        "S002",
    ]


def test_a_heading_stands_above_what_else_a_title_says(tmp_path, figures):
    drawing.contact_sheet([clip()], NTU, ["hand wave\nS001_hand_wave"], tmp_path / "a.png")
    heading, name = figures[0].axes[0].texts[:2]
    assert (heading.get_text(), name.get_text()) == ("hand wave", "S001_hand_wave")
    assert heading.get_fontsize() > name.get_fontsize()


def test_short_views_share_a_line(tmp_path, figures):
    views = [clip(frames=frames)[..., 0] for frames in (64, 32, 32)]
    drawing.draw_views(views, [None] * 3, NTU, list("abc"), tmp_path / "a.png")
    drawing.draw_views(views[:2], [None] * 2, NTU, list("ab"), tmp_path / "b.png")
    assert figures[0].get_size_inches().tolist() == figures[1].get_size_inches().tolist()
