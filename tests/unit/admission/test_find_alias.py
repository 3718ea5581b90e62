"""Undeclared models: which names a caller may write under a wildcard."""

import pytest

from penstock.admission.admit import find_alias
from penstock.domain.snapshot import Alias, Provider, Snapshot
from penstock.domain.tenancy import Principal
from penstock.errors import ModelNotFound

CALLER = Principal("key_1", "ci", team="growth")
WORLD = Snapshot(
    providers={"lab": Provider(name="lab", kind="compatible", base_url="http://127.0.0.1:1/v1")},
    aliases={"lab/*": Alias("lab/*", ())},
)


@pytest.mark.parametrize("model", ["big", "org/model-2.5:free", "ft:gpt@v1+x", "m" * 256])
def test_a_vendors_name_is_taken_as_it_is(model: str) -> None:
    alias = find_alias(WORLD, CALLER, f"lab/{model}")
    assert alias.name == f"lab/{model}" and alias.targets[0].model == model


@pytest.mark.parametrize("model", ["", "a\x00b", "a b", "-a", "m" * 257, "\u4e00", "a\n"])
def test_what_can_be_no_vendors_name_is_no_model(model: str) -> None:
    with pytest.raises(ModelNotFound):
        find_alias(WORLD, CALLER, f"lab/{model}")
