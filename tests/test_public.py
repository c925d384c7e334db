"""The public library: every name is documented, and the classes in its signatures are public too."""

import inspect
import typing
from collections.abc import Iterator
from typing import Any

import pytest

import dpl


def functions_of(name: str) -> Iterator[tuple[str, Any]]:
    """A public function itself; of a class its constructor, public methods and properties."""
    value = getattr(dpl, name)
    if inspect.isfunction(value):
        yield name, value
    elif inspect.isclass(value):
        for own, member in vars(value).items():
            if own == "__init__" or not own.startswith("_"):
                member = member.fget if isinstance(member, property) else getattr(member, "__func__", member)
                if inspect.isfunction(member):
                    yield f"{name}.{own}", member


def classes_in(annotation: Any) -> Iterator[type]:
    """The classes of dpl that an annotation names."""
    if inspect.isclass(annotation) and annotation.__module__.split(".")[0] == "dpl":
        yield annotation
    for part in typing.get_args(annotation):
        for inner in part if isinstance(part, list) else [part]:
            yield from classes_in(inner)


@pytest.mark.parametrize("name", dpl.__all__)
def test_classes_in_public_signatures_are_public(name: str):
    private = {
        f"{where}({argument}: {kind.__name__})"
        for where, function in functions_of(name)
        for argument, annotation in typing.get_type_hints(inspect.unwrap(function)).items()
        for kind in classes_in(annotation)
        if not kind.__name__.startswith("_") and getattr(dpl, kind.__name__, None) is not kind
    }
    assert not private


@pytest.mark.parametrize("name", dpl.__all__)
def test_public_names_are_documented_with_their_arguments(name: str):
    value = getattr(dpl, name)
    assert inspect.getdoc(value)
    for where, function in functions_of(name):
        if where.endswith("__init__") or not inspect.isfunction(value):
            continue
        doc = inspect.getdoc(function) or ""
        given = [p for p in inspect.signature(function).parameters if p not in ("self", "cls")]
        assert all(argument in doc for argument in given), where
        assert "Args:" in doc and "Example:" in doc, where
