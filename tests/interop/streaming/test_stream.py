"""Streams: every answer is what the model says of the clip cut from the whole recording."""

import numpy as np
import pytest
import torch

from slim_fast import SLiMEncoder
from slim_fast.interop.streaming import Stream

FRAMES, WINDOW, CENTRE, PATIENCE = 76, 24, 2, 10


# Person -> the frames in which they are there. A has a gap shorter than the patience; B comes late,
# leaves, and comes back; C is there too shortly for a token of their own frames alone; D comes when
# everybody else has been forgotten.
THERE = {"A": [(0, 20), (26, 48)], "B": [(5, 24), (40, 50)], "C": [(14, 17)], "D": [(66, 76)]}


def recording(channels: int = 3) -> dict[str, torch.Tensor]:
    """Person -> (FRAMES, 5, channels), far from the origin; zeros where they are absent."""
    people = {}
    for name, spans in THERE.items():
        people[name] = torch.zeros(FRAMES, 5, channels)
        for begin, end in spans:
            people[name][begin:end] = (
                torch.randn(end - begin, 5, channels)
                + torch.tensor([3.0, -2.0, 5.0, 1.0])[:channels]
            )
    return people


def offline(model, people, end, window=WINDOW, patience=PATIENCE, dims=3):
    """Person -> (clip, (2 D,)) of the window that ends before frame `end`, one person at a time;
    first come first.
    """
    known = {}
    for name, clip in people.items():
        there = [n for n in range(end) if clip[n, :, :dims].any()]
        if not there or end - 1 - there[-1] >= patience:
            continue
        came = there[-1]
        for n in reversed(there):
            if came - n > patience:
                break
            came = n
        cut = clip[end - min(end - came, window) // 8 * 8 : end]
        if cut.any():
            known[name] = (came, cut)
    known = dict(sorted(known.items(), key=lambda item: item[1][0]))
    if not known:
        return {}
    first = next(iter(known.values()))[1]
    origin = next(frame for frame in first if frame[:, :dims].any())[CENTRE, :dims]
    answers = {}
    for name, (_, cut) in known.items():
        cut = cut.clone()
        for frame in cut:
            if frame[:, :dims].any():
                frame[:, :dims] -= origin
        clip = cut.permute(2, 0, 1)[None, ..., None]
        ((patches, cls),) = SLiMEncoder.get_intermediate_layers(
            model, clip, 1, return_class_token=True
        )
        answers[name] = (clip, torch.cat([cls[0], patches[0].mean(0)]))
    return answers


def live(people, chunks, seed=0):
    """(frames (F, M, V, C), ids) in chunks of the given sizes in turn, ids in another order each
    time; absent people are left out, NaN or zeros.
    """
    rng = np.random.default_rng(seed)
    at, turn = 0, 0
    while at < FRAMES:
        end = min(FRAMES, at + chunks[turn % len(chunks)])
        names = [name for name in people if people[name][at:end].any() or rng.random() < 0.3]
        names = [names[i] for i in rng.permutation(len(names))]
        frames = (
            torch.stack([people[n][at:end] for n in names], 1)
            if names
            else torch.zeros(end - at, 0, 5, 3)
        )
        frames[(frames == 0).flatten(2).all(2)] = torch.nan if rng.random() < 0.5 else 0
        yield frames, names
        at, turn = end, turn + 1


def close(got, want):
    assert (got - want).norm() <= 1e-5 * want.norm()


@pytest.mark.parametrize(
    ("every", "chunks"), [(1, (1,)), (5, (3, 7)), (8, (1,)), (16, (40, 5)), (8, (76,))]
)
@pytest.mark.parametrize("optimized", [False, True])
def test_every_answer_is_that_of_the_clip_cut_from_the_recording(
    make_classifier, every, chunks, optimized
):
    classifier, people = make_classifier(), recording()
    stream = Stream(
        classifier.optimize(torch.float32) if optimized else classifier,
        WINDOW,
        every,
        PATIENCE,
        CENTRE,
    )
    answers = [
        answer for frames, ids in live(people, chunks) for answer in stream.push(frames, ids)
    ]
    assert [answer.frame for answer in answers] == list(range(every, FRAMES + 1, every))
    crowds = set()
    for answer in answers:
        want = offline(classifier, people, answer.frame)
        crowds.add(tuple((name, clip.shape[2]) for name, (clip, _) in want.items()))
        assert list(answer.features) == list(answer.person_logits) == list(want)
        for name, (clip, features) in want.items():
            close(answer.features[name], features)
            close(answer.person_logits[name], classifier(clip)[0])
        if want:  # the released protocol sums people before the linear head
            pooled = torch.stack([features for _, features in want.values()]).sum(0)
            close(answer.logits, classifier.head(pooled))
        else:
            assert answer.logits is answer.probabilities is None
    if every == 1:  # the recording holds what the test is about
        assert {
            (),
            (("A", 24), ("B", 8)),
            (("A", 24), ("B", 16)),
            (("A", 24), ("B", 24)),
            (("D", 8),),
        } <= crowds
        assert any("C" in dict(crowd) for crowd in crowds)


@pytest.mark.parametrize("pool", ["sum", "mean", "max"])
def test_a_whole_window_is_the_classifiers_own_answer(make_classifier, pool):
    classifier = make_classifier(people_pool=pool)
    x = torch.randn(50, 2, 5, 3) + 2
    stream = Stream(classifier, 16, 8, centre=CENTRE)
    for answer in stream.push(x)[1:]:
        clip = x[answer.frame - 16 : answer.frame]
        clip = (clip - clip[0, 0, CENTRE]).permute(3, 0, 2, 1)[None]  # (1, C, T, V, M)
        close(answer.logits, classifier(clip)[0])
        close(answer.probabilities, classifier(clip)[0].softmax(0))
        out = classifier.forward_features(clip)
        for person in (0, 1):
            close(answer.features[person][:16], out["x_norm_clstoken"][person])
            close(
                answer.person_probabilities[person], classifier(clip[..., [person]])[0].softmax(0)
            )


def test_an_encoder_answers_features_alone_and_takes_its_topologys_centre(make_encoder):
    encoder = make_encoder("ntu-25")
    x = torch.randn(8, 1, 25, 3) + 4
    (answer,) = Stream(encoder, 8).push(x)
    clip = (x - x[0, 0, encoder.topology.centre]).permute(3, 0, 2, 1)[None]
    close(answer.features[0][:16], encoder(clip)[0])
    assert answer.logits is None
    assert answer.person_logits == {}


def test_a_confidence_is_not_centred_and_alone_is_nobody(make_encoder):
    encoder = make_encoder(channels="xyc")
    x = torch.rand(16, 2, 5, 3) + 1
    x[:, 1, :, :2] = 0
    x[3, 0, :, :2] = 0
    answers = Stream(encoder, 16, centre=CENTRE).push(x)
    clip = x[:, 0].clone()
    clip[3] = 0
    want = offline(encoder, {0: clip}, 16, 16, dims=2)
    assert list(answers[-1].features) == [0]
    close(answers[-1].features[0], want[0][1])


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_joint_with_a_number_that_is_not_finite_is_undetected(make_encoder, value):
    encoder, x = make_encoder(), torch.randn(8, 1, 5, 3)
    broken = x.clone()
    broken[3, 0, 1, 2], x[3, 0, 1] = value, 0
    got, want = (
        Stream(encoder, 8, centre=CENTRE).push(frames)[0].features[0] for frames in (broken, x)
    )
    assert torch.equal(got, want)


def test_undetected_joints_stay_zero_wherever_the_person_stands(make_encoder):
    encoder, here = make_encoder(), torch.randn(16, 1, 5, 3) + 3
    there = here + 5
    for x in (here, there):
        x[2:5, 0, 0], x[:4, 0, CENTRE], x[:, 0, 4] = 0, 0, 0
    got, want = (Stream(encoder, 16, centre=CENTRE).push(x)[-1].features[0] for x in (here, there))
    torch.testing.assert_close(got, want, atol=1e-4, rtol=1e-4)
    clip = (here - here[4, 0, CENTRE]) * (here != 0)
    alone = encoder.forward_features(clip.permute(3, 0, 2, 1)[None])
    torch.testing.assert_close(
        got[: len(got) // 2], alone["x_norm_clstoken"][0], atol=1e-4, rtol=1e-4
    )


def test_only_differences_from_the_origin_count(make_encoder):
    encoder, x = make_encoder(), torch.randn(16, 2, 5, 3)
    here, there = (Stream(encoder, 16, centre=CENTRE).push(x + shift)[-1] for shift in (1.0, 9.0))
    torch.testing.assert_close(here.features, there.features, atol=1e-4, rtol=1e-4)
    alone = Stream(encoder, 16, centre=CENTRE).push(x[:, 1:] + 1.0, ids=[1])[-1]
    # the first person's origin counts
    assert not torch.allclose(alone.features[1], here.features[1], atol=1e-3)


def test_chunks_numpy_and_dtypes_change_nothing_and_frames_are_copied(make_encoder):
    encoder, x = make_encoder(), torch.randn(24, 1, 5, 3)
    whole = Stream(encoder, 16, centre=CENTRE).push(x)
    buffer, stream, answers = np.empty((1, 5, 3)), Stream(encoder, 16, centre=CENTRE), []
    for frame in x:
        buffer[:] = frame.numpy()  # as a camera's driver reuses its memory
        answers += stream.push(buffer)
    for got, want in zip(answers, whole, strict=True):
        torch.testing.assert_close(got.features, want.features)
    asked = x.clone().requires_grad_()
    (*_, last) = Stream(encoder, 16, centre=CENTRE).push(asked)
    assert not last.features[0].requires_grad


def test_memory_stays_bounded_and_the_forgotten_leave_nothing(make_encoder):
    stream = Stream(make_encoder(), 16, every=500, patience=5, centre=CENTRE)
    held = set()
    for number in range(3000):
        stream.push(torch.randn(2, 5, 3), ids=["stays", f"passes by {number // 2}"])
        if number > 50:
            people = stream._people.values()
            held.add((len(stream.people), sum(p.frames.untyped_storage().nbytes() for p in people)))
    assert max(count for count, _ in held) <= 4
    assert {nbytes / count for count, nbytes in held} == {16 * 5 * 3 * 4}
    for _ in range(5):
        stream.push(torch.zeros(0, 5, 3), ids=[])
    assert stream.people == ()


def test_reset_begins_anew(make_encoder):
    stream, x = Stream(make_encoder(), 16, centre=CENTRE), torch.randn(16, 1, 5, 3)
    first = stream.push(x)
    stream.push(torch.randn(3, 1, 5, 3), ids=["other"])
    stream.reset()
    assert stream.people == ()
    for got, want in zip(stream.push(x), first, strict=True):
        assert got.frame == want.frame
        assert torch.equal(got.features[0], want.features[0])


def test_who_comes_back_after_the_patience_is_new(make_encoder):
    encoder, x = make_encoder(), torch.randn(32, 1, 5, 3)
    for gap, frames in ((4, 16), (5, 8)):
        seen = x.clone()
        seen[8 : 8 + gap] = 0
        stream = Stream(encoder, 24, 1, patience=5, centre=CENTRE)
        (*_, last) = stream.push(seen[: 16 + gap])
        want = offline(encoder, {0: seen[: 16 + gap, 0]}, 16 + gap, patience=5)[0]
        assert want[0].shape[2] == frames
        close(last.features[0], want[1])
