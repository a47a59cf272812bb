"""The classifier: pools against a loop over people, its head, its dtypes, copies of it."""

import copy
import pickle
import re

import pytest
import torch
from torch import Tensor, nn

from slim_fast import SLiMClassifier, SLiMEncoder, UserError
from slim_fast.interop.classifier import pool_people

CLIPS = (3, 3, 16, 5, 3)


PRESENT = torch.tensor([[True, False, True], [False, False, False], [True, True, True]])


PEOPLE_POOLS = {"sum": lambda x: x.sum(0), "mean": lambda x: x.mean(0), "max": lambda x: x.amax(0)}


def crowd() -> Tensor:
    """CLIPS of the people in PRESENT; the others are zeros."""
    return torch.randn(CLIPS) * PRESENT[:, None, None, None]


def person_by_person(classifier: SLiMClassifier, x: Tensor, present: Tensor) -> Tensor:
    """(B, F): what the head reads, of people encoded one at a time by the plain encoder."""
    rows = []
    for clip, there in zip(x, present, strict=True):
        people = []
        for person in there.nonzero()[:, 0]:
            one = clip[..., person].permute(1, 2, 0)[None]  # (1, T, V, C)
            ((patches, cls),) = classifier.encode_last_blocks(one, None, 1)
            parts = {"cls": cls[0], "mean": patches[0].mean(0)}
            people.append(torch.cat([parts[name] for name in classifier.pool.split("+")]))
        pooled = PEOPLE_POOLS[classifier.people_pool](torch.stack(people)) if people else None
        rows.append(torch.zeros(classifier.num_features) if pooled is None else pooled)
    return torch.stack(rows)


@pytest.mark.parametrize("people_pool", ["sum", "mean", "max"])
@pytest.mark.parametrize("pool", ["cls", "mean", "cls+mean"])
def test_pools_are_a_loop_over_the_people_present(make_classifier, pool, people_pool):
    classifier, x = make_classifier(pool=pool, people_pool=people_pool), crowd()
    want = person_by_person(classifier, x, PRESENT)
    features = classifier.forward_features(x)
    torch.testing.assert_close(classifier.forward_head(features, pre_logits=True), want)
    torch.testing.assert_close(classifier.forward_head(features), classifier.head(want))
    torch.testing.assert_close(classifier(x), classifier.head(want))
    assert want.shape == (3, classifier.num_features) == (3, classifier.head.in_features)
    assert classifier.head_hidden_size == classifier.num_features
    torch.testing.assert_close(classifier(x[1:2]), classifier.head.bias[None])  # nobody


@pytest.mark.parametrize("people_pool", ["sum", "mean", "max"])
def test_who_is_there_can_be_told_and_zeros_can_be_a_pose(make_classifier, people_pool):
    classifier, x = make_classifier(people_pool=people_pool), torch.randn(CLIPS)
    want = classifier.head(person_by_person(classifier, x, PRESENT))
    torch.testing.assert_close(classifier(x, PRESENT), want)
    torch.testing.assert_close(classifier(x, people=PRESENT), want)
    classifier.skip_empty = False
    everybody = person_by_person(classifier, x := crowd(), torch.ones_like(PRESENT))
    torch.testing.assert_close(classifier(x), classifier.head(everybody))
    torch.testing.assert_close(
        classifier.forward_head(classifier.forward_features(x)), classifier(x)
    )


def test_pool_people_against_numbers():
    features = torch.tensor([[[-1.0, 5.0], [-3.0, 1.0], [9.0, 9.0]]])
    there = torch.tensor([[True, True, False]])
    for how, want in (("sum", [-4.0, 6.0]), ("mean", [-2.0, 3.0]), ("max", [-1.0, 5.0])):
        assert pool_people(features, there, how).tolist() == [want]
        assert pool_people(features, ~there & there, how).tolist() == [[0.0, 0.0]]


def test_dropout_is_only_in_training(make_classifier):
    classifier, x = make_classifier(dropout=0.5), crowd()
    want = classifier(x)
    assert torch.equal(classifier(x), want)
    classifier.head = nn.Identity()
    pooled = classifier(x)
    dropped = classifier.train()(x)
    gone = dropped[0] == 0
    assert 4 <= gone.sum() <= 28  # of 32
    torch.testing.assert_close(dropped[0][~gone], 2 * pooled[0][~gone])
    assert torch.equal(
        classifier.forward_head(classifier.forward_features(x), pre_logits=True), pooled
    )


def test_heads(make_classifier):
    classifier, x = make_classifier(4), crowd()
    assert classifier.get_classifier() is classifier.head
    pooled = classifier.forward_head(classifier.forward_features(x), pre_logits=True)
    classifier.double().reset_classifier(7)
    assert classifier.num_classes == 7
    assert (classifier.head.weight.dtype, classifier.head.weight.shape) == (torch.float64, (7, 32))
    assert 0.005 < classifier.head.weight.std() < 0.02
    assert not classifier.head.bias.any()
    assert classifier(x.double()).shape == (3, 7)
    classifier.float().reset_classifier(0)
    assert torch.equal(classifier(x), pooled)
    assert not [name for name in classifier.state_dict() if name.startswith("head")]
    assert make_classifier(0).num_classes == 0
    for wrong in (-1, 2.0, "4"):
        with pytest.raises(
            UserError, match=f"num_classes={re.escape(repr(wrong))}: must be a whole number"
        ):
            classifier.reset_classifier(wrong)
    with pytest.raises(UserError, match="pool='tokens' is not known: choose one of cls, mean"):
        make_classifier(pool="tokens")
    with pytest.raises(
        UserError, match="people_pool='min' is not known: choose one of sum, mean, max"
    ):
        make_classifier(people_pool="min")


def test_bad_clips_are_told_as_by_the_encoder(make_classifier):
    classifier = make_classifier()
    for x, says in (
        (torch.randn(2, 3, 16, 5), "people missing"),
        (torch.randn(2, 1, 16, 5, 3), "PYSKL"),
        (torch.zeros(CLIPS, dtype=torch.int64), "floating-point"),
        (torch.randn(CLIPS).numpy(), "torch tensor"),
        (torch.randn(CLIPS, device="meta"), "on cpu but the clips are on meta"),
    ):
        with pytest.raises(UserError, match=says):
            classifier(x)
    with pytest.raises(UserError, match="on meta but the clips are on cpu"):
        classifier.to("meta")(torch.randn(CLIPS))


def test_names_are_the_encoders_and_the_heads(make_classifier, make_encoder):
    encoder, classifier = make_encoder(), make_classifier()
    assert list(classifier.state_dict()) == [*encoder.state_dict(), "head.weight", "head.bias"]
    known = dict(classifier.named_parameters())
    assert classifier.no_weight_decay() <= known.keys()
    assert all(p.dim() == 1 for n, p in known.items() if "norm" in n or n.endswith("bias"))


@pytest.mark.parametrize("dtype", [None, "auto", torch.float32, torch.bfloat16])
@pytest.mark.parametrize("classes", [4, 0])
def test_optimized_it_answers_the_same(make_classifier, dtype, classes):
    classifier, x = make_classifier(classes, dropout=0.5), crowd()
    want = classifier(x)
    fast = classifier.train().optimize(dtype)
    got = fast(x)
    assert isinstance(fast, SLiMClassifier)
    assert (got.dtype, got.requires_grad) == (torch.float32, False)
    assert (got - want).norm() <= (1e-5 if dtype in (None, torch.float32) else 3e-2) * want.norm()
    torch.testing.assert_close(fast.forward_head(fast.forward_features(x)), got)
    if dtype == torch.bfloat16:
        assert fast(x.bfloat16()).dtype == torch.bfloat16


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_another_dtype(make_classifier, dtype):
    classifier, x = make_classifier(), crowd()
    want = classifier(x)
    got = classifier.to(dtype)(x)
    assert (got.dtype, classifier.head.weight.dtype) == (torch.float32, dtype)
    assert (got - want).norm() <= (4e-2 if dtype == torch.bfloat16 else 1e-5) * want.norm()


@pytest.mark.long
def test_it_compiles_in_one_graph(make_classifier, make_encoder):
    torch.compiler.reset()
    x = crowd()
    classifier, encoder = make_classifier(people_pool="max"), make_encoder()
    compiled = torch.compile(classifier, fullgraph=True, backend="aot_eager")
    pairs = [
        (compiled(x), classifier(x)),
        (compiled(torch.zeros_like(x)), classifier(torch.zeros_like(x))),
    ]
    pairs.append((torch.compile(encoder, fullgraph=True, backend="aot_eager")(x), encoder(x)))
    for got, want in pairs:
        torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)
    classifier.zero_grad()
    compiled(x).square().sum().backward()
    compiled_grads = [p.grad for n, p in classifier.named_parameters() if n != "mask_token"]
    classifier.zero_grad()
    classifier(x).square().sum().backward()
    wanted = [p.grad for n, p in classifier.named_parameters() if n != "mask_token"]
    for got, want in zip(compiled_grads, wanted, strict=True):
        assert (got - want).norm() <= 1e-4 * want.norm()


def test_copies(make_classifier):
    classifier, x = make_classifier(), crowd()
    for other in (copy.deepcopy(classifier), pickle.loads(pickle.dumps(classifier))):
        assert torch.equal(other(x), classifier(x))
        with torch.no_grad():
            other.norm.bias += 1
        assert not torch.equal(other(x), classifier(x))
    with pytest.raises(UserError, match="optimized encoder can't be copied"):
        copy.deepcopy(classifier.optimize(None))


def test_it_is_an_encoder(make_classifier, make_encoder):
    classifier, encoder, x = make_classifier(), make_encoder(), crowd()
    encoder.load_state_dict(
        {k: v for k, v in classifier.state_dict().items() if not k.startswith("head")}
    )
    assert isinstance(classifier, SLiMEncoder)
    for name in ("x_norm_clstoken", "x_norm_patchtokens", "people"):
        assert torch.equal(classifier.forward_features(x)[name], encoder.forward_features(x)[name])
    assert torch.equal(
        classifier.get_intermediate_layers(x)[0], encoder.get_intermediate_layers(x)[0]
    )
    assert (classifier.embed_dim, classifier.num_features, encoder.num_features) == (16, 32, 16)
