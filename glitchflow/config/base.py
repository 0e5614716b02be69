"""What every section of an experiment is made of: keys with default, meaning, unit and limits, and their types."""

import os
import types
import typing
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
)
from pydantic_core import PydanticCustomError

LONGEST = 255  # bytes of a name, on every file system in use


class Section(BaseModel):
    """A group of keys. Sections never change and are equal where their keys are, so they can be keys of caches."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _number(cls, value: Any, info: ValidationInfo) -> Any:
        """To pydantic true is 1, to a user who writes it a mistake."""
        kinds = {*_kinds(cls.model_fields[info.field_name or ""].annotation)}
        if isinstance(value, bool) and kinds & {int, float} and bool not in kinds:
            raise ValueError("must be a number")
        return value

    def __hash__(self) -> int:
        return hash(self.model_dump_json())  # lists among the keys have no hash of their own


def _kinds(annotation: Any) -> tuple[Any, ...]:
    """The alternatives of an annotation."""
    several = typing.get_origin(annotation) in (types.UnionType, typing.Union)
    return typing.get_args(annotation) if several else (annotation,)


def key(default: Any, text: str, unit: str = "", **limits: Any) -> Any:
    """A configuration key: its default, meaning, unit and limits; `--help` prints them."""
    return Field(default, description=text, json_schema_extra={"unit": unit}, **limits)


def inner_section(annotation: Any) -> Any:
    """The section inside list[Section] or Section | None, else the annotation itself."""
    if typing.get_origin(annotation) in (list, types.UnionType, typing.Union):
        return next((a for a in typing.get_args(annotation) if isinstance(a, type)), annotation)
    return annotation


def ascending(value: tuple[float, float]) -> tuple[float, float]:
    """Returns the pair. Raises ValueError where it does not ascend."""
    if value[0] > value[1]:
        raise ValueError("must be [low, high] with low <= high")
    return value


def positive(value: tuple[float, float]) -> tuple[float, float]:
    """Returns the pair. Raises ValueError where its first number is not positive."""
    if value[0] <= 0:
        raise ValueError("must be [low, high] with 0 < low")
    return value


def _absolute(value: str) -> str:
    """Ray's workers have working directories of their own. URLs and the empty string stay."""
    if not value or "://" in value:
        return no_password(value)
    if "\0" in value:
        raise ValueError("must not hold the character NUL")
    if any(len(os.fsencode(part)) > LONGEST for part in Path(value).parts):
        raise ValueError(f"holds a name of more than {LONGEST} bytes, which file systems do not take")
    return str(Path(value).expanduser().absolute())


def _local(value: str) -> str:
    """A place that is written through the file system, where a URL would quietly be a directory called `s3:`."""
    if "://" in value:
        raise ValueError("must be a path, not a URL; of what stages write store.path alone may be one")
    return _absolute(value)


def no_password(value: str) -> str:
    """Returns a URL. Raises ValueError where it holds a password: stores, checkpoints and pages quote it."""
    try:
        secret = urlsplit(value).password
    except ValueError as error:
        raise ValueError(f"is no URL: {error}") from None
    if secret:
        raise PydanticCustomError(
            "secret", "must not hold a password: what is made quotes its configuration; use the environment"
        )
    return value


def _channel(value: str) -> str:
    if not value.strip():
        raise ValueError("must name a channel")
    return value


def _checkpoint(value: str) -> str:
    named = value in ("best", "last", "initial") or value.startswith("models:/")
    return value if named else _absolute(value)


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) and value else value or []


def _names(value: Any) -> Any:
    """A file of names, read now so that what a stage is made from holds the names; not there yet: its path stays."""
    if not isinstance(value, str):
        return value
    path = Path(_absolute(value))
    if not value or not path.is_file():
        return str(path)
    lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    names = [line for line in lines if line and not line.startswith("#")]
    if not names:
        raise ValueError("names no channel")
    return names


def _every(value: int | str) -> int | str:
    every(value)
    return value


def every(value: int | str) -> tuple[int, float]:
    """`train.checkpoint_every` as (steps, seconds), one of which is 0: 500 is steps, "600s" is seconds."""
    text = str(value)
    number = text.removesuffix("s")
    if not number.isdecimal():
        raise ValueError("must be a number of steps, or of seconds as in 600s; 0: at each epoch's end")
    return (0, float(number)) if text.endswith("s") else (int(number), 0.0)


Every = Annotated[int | str, AfterValidator(_every)]
Range = Annotated[tuple[float, float], AfterValidator(ascending)]
Positive = Annotated[Range, AfterValidator(positive)]
Channel = Annotated[str, AfterValidator(_channel)]
File = Annotated[str, AfterValidator(_absolute)]
Local = Annotated[str, AfterValidator(_local)]
Files = Annotated[list[File], BeforeValidator(_listed)]  # one may stand without a list
Families = Annotated[list[str], BeforeValidator(_listed)]  # likewise
Url = Annotated[str, AfterValidator(no_password)]
Checkpoint = Annotated[str, AfterValidator(_checkpoint)]  # of a run by name, or any by path
# names, or the path of a file of them that is not there yet
Names = Annotated[list[str] | str, BeforeValidator(_names)]
