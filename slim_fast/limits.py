"""Limits of configuration values, as part of their types.

The parser of the command line checks them through pydantic, and so does `check_config` a config
that was made or changed in Python.
"""

import re
from dataclasses import asdict
from math import inf
from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import Ge, Gt, Le, Lt, MultipleOf

from slim_fast.errors import UserError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Count = Annotated[int, Ge(1)]
CountOrZero = Annotated[int, Ge(0)]
Frames = Annotated[int, Ge(8), MultipleOf(8)]
Share = Annotated[float, Ge(0), Le(1)]
NonNegative = Annotated[float, Ge(0), Lt(inf)]
Positive = Annotated[float, Gt(0), Lt(inf)]


def check_interval(name: str, interval: tuple[float, float]) -> None:
    """Raises: UserError for an interval that is null, or whose ends are the wrong way round."""
    if interval is None:  # of an element in a list, which the parser lets pass
        raise UserError(f"{name} is null: give two numbers, or leave it out.")
    if interval[0] > interval[1]:
        raise UserError(f"{name}={interval}: the first number must not be above the second.")


def check_config(config: "DataclassInstance") -> None:
    """Raises: UserError naming the first field that breaks its limits."""
    # slow to import, and needed by runs only
    from pydantic import TypeAdapter, ValidationError

    try:
        TypeAdapter(type(config)).validate_python(asdict(config))
    except ValidationError as error:
        fault: Any = error.errors()[0]
        if isinstance(cause := fault.get("ctx", {}).get("error"), UserError):
            raise cause from None  # of a __post_init__
        name = ".".join(str(part) for part in fault["loc"])
        raise UserError(describe_fault(name, fault["input"], fault["msg"])) from None


def describe_fault(name: str, value: object, message: str) -> str:
    """A sentence on a field, from pydantic's message ("Input should be greater than 0")."""
    limit = message.removeprefix("Input should be ").replace("greater than or equal to", "at least")
    return f"{name}={value}: must be {limit.replace('less than inf', 'a finite number')}."


def readable_types(text: str) -> str:
    """Limits in a type's representation as people write them: "int >= 1"."""
    signs = {"Ge": ">=", "Gt": ">", "Le": "<=", "Lt": "<", "MultipleOf": "a multiple of"}

    def readable(match: re.Match[str]) -> str:
        limits = re.findall(r"(\w+)\(\w+=([^)]*)\)", match[2])
        return f"{match[1]} " + " and ".join(
            f"{signs[name]} {n}" for name, n in limits if n != "inf"
        )

    text = re.sub(r"Annotated\[(\w+), ([^\]]*)\]", readable, text)
    text = text.replace(f" >= {-(2**63)} and <= {2**63 - 1}", " of 64 bits")
    return re.sub(r"Optional\[([^\[\]]*)\]", r"\1 | null", text)
