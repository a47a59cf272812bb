"""Faults in the PTX that Triton makes of the kernels: barriers, waits, fences and groups removed,
predicates, addresses, layouts and values changed. A description names the instruction by what it
does; `old` finds it.
"""

from collections.abc import Callable, Sequence
from functools import partial

from tests.ptx_emulator.mutations import Fault

TRITON = "3.9"
"""Whose PTX has these places."""
# (regular expression, what takes its place)
Change = tuple[str, str]
BARRIER: Change = (r"bar\.sync\s+0;", "")
COPY_WAIT: Change = (r"cp\.async\.wait_group\s+\d+;", "")
COPY_WAIT_LATER: Change = (r"cp\.async\.wait_group\s+\d+;", "cp.async.wait_group 2;")
COPY_COMMIT: Change = (r"cp\.async\.commit_group;", "")
PROXY_FENCE: Change = (r"fence\.proxy\.async\.shared::cta;", "")
PRODUCT_FENCE: Change = (r"wgmma\.fence\.sync\.aligned;", "")
PRODUCT_WAIT: Change = (r"wgmma\.wait_group\.sync\.aligned\s+\d+;", "")
PRODUCT_WAIT_LATER: Change = (r"wgmma\.wait_group\.sync\.aligned\s+\d+;", "wgmma.wait_group 1;")
PRODUCT_COMMIT: Change = (r"wgmma\.commit_group\.sync\.aligned;", "")
DIVERGENT_BARRIER: Change = (r"bar\.sync\s+0;", r"@%p5 bar.sync 0;")
DIVERGENT_EXCHANGE: Change = (r"shfl\.sync", r"@%p5 shfl.sync")
UNMASKED_STORE: Change = (r"@%p\d+ (st\.global)", r"\1")
UNMASKED_LOAD: Change = (r"@%p\d+ (ld\.global)", r"\1")
INVERTED_STORE: Change = (r"@(%p\d+ st\.global)", r"@!\1")
UNMASKED_COPY: Change = (r"(cp\.async\.cg\.shared\.global [^;]*), %r\d+;", r"\1;")
ROWS_INCLUSIVE: Change = (r"setp\.lt\.s32", "setp.le.s32")
ROWS_UNSIGNED_BELOW: Change = (r"setp\.lt\.s32", "setp.gt.s32")
SHIFTED_STORE: Change = (r"(st\.global\S+ \[ %rd\d+ \+ )0 \]", r"\g<1>16 ]")
CROOKED_LOAD: Change = (r"(ld\.global\.v4\S+ \{[^}]*\}, \[ %rd\d+ \+ )0 \]", r"\g<1>4 ]")
SHARED_ROW: Change = (r"(st\.shared\S+\s+\[%r\d+\+)16640\]", r"\g<1>16896]")
SHARED_FAR: Change = (r"(st\.shared\S+\s+\[%r\d+\+)\d+\]", r"\g<1>262144]")
SWIZZLE: Change = (r"(xor\.b32\s+%r\d+, %r\d+, )(?:32|64);", r"\g<1>16;")
NO_TRANSPOSE: Change = (r"\.trans\.shared", ".shared")
TRANSPOSE: Change = (r"(ldmatrix\S+\.x4)\.shared", r"\1.trans.shared")
TRANSPOSED_PRODUCT: Change = (r"((?:%p\d+|0), 1, 1, )0;", r"\g<1>1;")
# 128 bytes to 64, in bits 62 and 63 of a matrix descriptor
DESCRIPTOR_SWIZZLE: Change = (r"4611686293305294848", "-9223371761976868864")
DESCRIPTOR_STRIDE: Change = (r"4611686293305294848", "4611686155866341376")
NO_ACCUMULATION: Change = (r"%p\d+(, 1, 1, 0(?:, 0)?;)", r"0\1")
SWAPPED_PAIR: Change = (
    r"(cvt\.rn\.(?:bf16|f16)x2\.f32\s+%r\d+), (%r\d+), (%r\d+);",
    r"\1, \3, \2;",
)
SWAPPED_OPERAND: Change = (
    r"(mma\.sync\S+ \{[^}]*\}, \{[^}]*\}, )\{ (%r\d+), (%r\d+) \}",
    r"\1{ \3, \2 }",
)
NEIGHBOUR: Change = (r"(shfl\.sync\.bfly\.b32\s+%r\d+, %r\d+, )2,", r"\g<1>1,")
NO_LOOP: Change = (r"@%p\d+ bra\s+\$L__BB0_1;", "")
MINIMUM: Change = (r"max\.f32", "min.f32")
WRONG_BASE: Change = (r"ex2\.approx\S*", "neg.f32")
OTHER_POINTER: Change = (r"\[(\w+)_param_1\]", r"[\1_param_2]")


def _faults(
    kernel: str, operation: str, target: str, *rows: tuple[str, Change, Sequence[int]]
) -> list[Fault]:
    """Rows of description, change and the occurrences to change one by one."""
    make: Callable[..., Fault] = partial(Fault, operation=operation, target=target, where=kernel)
    return [
        make(what=f"{what}, {n + 1}" if len(places) > 1 else what, old=old, new=new, nth=n)
        for what, (old, new), places in rows
        for n in places
    ]


def _harmless(
    kernel: str, operation: str, target: str, what: str, change: Change, nth: int, reason: str
) -> Fault:
    return Fault(what, operation, target, kernel, *change, nth, reason)


PTX_FAULTS = [
    *_faults(
        "linear_kernel",
        "norm_linear",
        "sm_80",
        ("barrier removed", BARRIER, range(2)),
        ("barrier that some lanes skip", DIVERGENT_BARRIER, [1]),
        ("exchange that some lanes skip", DIVERGENT_EXCHANGE, [0]),
        ("wait for copies removed", COPY_WAIT, [0]),
        ("wait for copies leaves two groups", COPY_WAIT_LATER, [0]),
        ("group of copies not closed", COPY_COMMIT, [1]),
        ("store's predicate removed", UNMASKED_STORE, [0]),
        ("load's predicate removed", UNMASKED_LOAD, [7]),
        ("copy reads past its mask", UNMASKED_COPY, [7]),
        ("one row too many", ROWS_INCLUSIVE, [1]),
        ("store 16 bytes further", SHIFTED_STORE, [0]),
        ("load between two elements", CROOKED_LOAD, [0]),
        ("shared store one row further", SHARED_ROW, [0]),
        ("shared store outside", SHARED_FAR, [0]),
        ("swizzle changed", SWIZZLE, [0, 1]),
        ("fragment transposed", TRANSPOSE, [0]),
        ("halves of a fragment swapped", SWAPPED_OPERAND, [0]),
        ("sum with the wrong lane", NEIGHBOUR, [0]),
        ("loop runs once", NO_LOOP, [0]),
        ("gamma read from beta", OTHER_POINTER, [0]),
    ),
    *_faults(
        "linear_kernel",
        "norm_linear",
        "sm_90",
        ("barrier removed", BARRIER, [0, 2]),
        ("wait for copies removed", COPY_WAIT, [0]),
        ("fence between proxies removed", PROXY_FENCE, [0]),
        ("fence of registers removed", PRODUCT_FENCE, [0]),
        ("wait for products removed", PRODUCT_WAIT, [0]),
        ("group of products not closed", PRODUCT_COMMIT, [0]),
        ("descriptor's swizzle changed", DESCRIPTOR_SWIZZLE, [0]),
        ("descriptor's stride halved", DESCRIPTOR_STRIDE, [0]),
        ("weight taken as transposed", TRANSPOSED_PRODUCT, [0]),
        ("product not added to the sum", NO_ACCUMULATION, [1]),
        ("numbers of a pair swapped", SWAPPED_PAIR, [0]),
        ("store's predicate inverted", INVERTED_STORE, [0]),
    ),
    *_faults(
        "attention_forward_whole_kernel",
        "attention",
        "sm_90",
        ("barrier removed", BARRIER, range(9)),
        ("wait for copies removed", COPY_WAIT, [0]),
        ("group of copies not closed", COPY_COMMIT, [3, 7]),
        ("fence between proxies removed", PROXY_FENCE, [1, 2]),
        ("fence of registers removed", PRODUCT_FENCE, range(2)),
        ("wait for products removed", PRODUCT_WAIT, range(3)),
        ("group of products not closed", PRODUCT_COMMIT, range(3)),
        ("values taken as not transposed", (r"(%p\d+, 1, 1, )1;", r"\g<1>0;"), [0]),
        ("maximum with the wrong lane", NEIGHBOUR, [0]),
    ),
    *_faults(
        "attention_forward_kernel",
        "attention",
        "sm_80",
        ("barrier removed", BARRIER, [0, 1]),
        ("values' fragment not transposed", NO_TRANSPOSE, range(2)),
        ("exponential of the wrong base", WRONG_BASE, [0]),
    ),
    *_faults(
        "attention_backward_keys_kernel",
        "attention",
        "sm_90",
        ("barrier removed", BARRIER, [0, 1]),
        ("fence of registers removed", PRODUCT_FENCE, range(2)),
        ("wait for products removed", PRODUCT_WAIT, range(2)),
    ),
    *_faults(
        "attention_backward_queries_kernel",
        "attention",
        "sm_80",
        ("barrier removed", BARRIER, [0, 1]),
        ("store 16 bytes further", SHIFTED_STORE, [0]),
    ),
    *_faults(
        "norm_swiglu_kernel",
        "norm_swiglu",
        "sm_90",
        ("barrier removed", BARRIER, [0, 1, 2, 7]),
        ("fence between proxies removed", PROXY_FENCE, [0]),
        ("wait for products removed", PRODUCT_WAIT, [1, 2]),
    ),
    *_faults(
        "norm_swiglu_backward_kernel",
        "norm_swiglu",
        "sm_80",
        ("barrier removed", BARRIER, range(4)),
        ("fragment transposed", TRANSPOSE, [0]),
    ),
    *_faults(
        "norm_backward_kernel",
        "norm_linear",
        "sm_90",
        ("barrier removed", BARRIER, range(4)),
        ("store's predicate removed", UNMASKED_STORE, [0]),
    ),
    *_faults(
        "embed_kernel",
        "embed_tokens",
        "sm_90",
        ("barrier removed", BARRIER, range(3)),
        ("fence between proxies removed", PROXY_FENCE, [0]),
    ),
    *_faults(
        "embed_backward_kernel",
        "embed_tokens",
        "sm_80",
        ("barrier removed", BARRIER, [1, 2, 4]),
        ("fragment not transposed", NO_TRANSPOSE, [0]),
    ),
    *_faults(
        "attend_kernel",
        "prototype_loss",
        "sm_90",
        ("barrier removed", BARRIER, range(2)),
        ("wait for products removed", PRODUCT_WAIT, range(2)),
        ("descriptor's swizzle changed", DESCRIPTOR_SWIZZLE, [0, 4]),
    ),
    *_faults(
        "log_sum_exp_kernel",
        "prototype_loss",
        "sm_80",
        ("barrier removed", BARRIER, [0, 1]),
        ("wait for copies leaves two groups", COPY_WAIT_LATER, [0]),
        ("copy reads past its mask", UNMASKED_COPY, [2]),
    ),
    _harmless(
        "linear_kernel",
        "norm_linear",
        "sm_90",
        "barrier before the rows of a result removed",
        BARRIER,
        1,
        "the loop's first barrier lies between the same accesses",
    ),
    _harmless(
        "linear_kernel",
        "norm_linear",
        "sm_80",
        "barrier behind the loop removed",
        BARRIER,
        2,
        "nothing is touched behind it",
    ),
    _harmless(
        "attend_kernel",
        "prototype_loss",
        "sm_90",
        "barrier behind the loop removed",
        BARRIER,
        2,
        "each warp overwrites what it copied itself, and what was read before the loop's barrier",
    ),
    _harmless(
        "norm_swiglu_kernel",
        "norm_swiglu",
        "sm_90",
        "wait for the first product removed",
        PRODUCT_WAIT,
        0,
        "nobody uses its sum or overwrites its operands before the wait for the second",
    ),
    _harmless(
        "norm_swiglu_kernel",
        "norm_swiglu",
        "sm_90",
        "barrier between the first two products removed",
        BARRIER,
        3,
        "copies overwrite what was read a turn before, behind the barriers at the loop's ends",
    ),
    _harmless(
        "attention_forward_whole_kernel",
        "attention",
        "sm_90",
        "group of copies not closed",
        COPY_COMMIT,
        0,
        "its copies join the next group, and the loop waits for all groups",
    ),
    _harmless(
        "attention_forward_whole_kernel",
        "attention",
        "sm_90",
        "minimum for maximum",
        MINIMUM,
        0,
        "softmax is the same whichever score is subtracted, and these are small",
    ),
    _harmless(
        "attention_backward_queries_kernel",
        "attention",
        "sm_90",
        "wait for the third product removed",
        PRODUCT_WAIT,
        2,
        "nobody uses its sum or overwrites its operands before the wait for the fourth",
    ),
]
