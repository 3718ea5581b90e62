"""Laws of tags: whatever a caller sends, a call that is let through carries what is pinned, required and allowed."""

from hypothesis import given
from hypothesis import strategies as st

from penstock.admission.tags import tags_of
from penstock.domain.tenancy import ATTRIBUTES, Principal, Rights
from penstock.errors import InvalidRequest, NotPermitted

NAMES = st.sampled_from(["feature", "customer", "env"])
VALUES = st.sampled_from(["a", "b", "c"])
TAGS = st.dictionaries(NAMES, VALUES)
RIGHTS = st.builds(
    Rights,
    tags=TAGS,
    allowed_tags=st.dictionaries(NAMES, st.lists(VALUES, min_size=1, unique=True).map(tuple)),
)
PRINCIPALS = st.builds(
    Principal,
    st.just("key_1"),
    st.just("ci"),
    team=st.just("growth"),
    project=st.sampled_from(["", "a"]),
    user=st.sampled_from(["", "b"]),
    rights=st.lists(RIGHTS, min_size=1, max_size=3).map(tuple),
    required_tags=st.lists(NAMES, unique=True).map(tuple),
    tags_from=st.dictionaries(NAMES, st.sampled_from(ATTRIBUTES)),
)


def _let_through(principal: Principal, sent: dict[str, str] | None) -> dict[str, str] | None:
    headers = {} if sent is None else {"x-penstock-tags": ",".join(f"{name}={it}" for name, it in sent.items())}
    try:
        return tags_of(principal, headers)
    except (InvalidRequest, NotPermitted):
        return None


@given(PRINCIPALS, st.none() | TAGS)
def test_every_bound_of_the_caller_holds_for_the_tags_of_a_call(principal: Principal, sent: dict[str, str]) -> None:
    tags = _let_through(principal, sent)
    if tags is None:
        return
    assert set(principal.required_tags) <= tags.keys()
    assert (sent or {}).items() <= tags.items(), "what the caller says is kept, or refused"
    for rights in principal.rights:
        assert rights.tags.items() <= tags.items()
        assert all(tags[name] in values for name, values in rights.allowed_tags.items() if name in tags)


@given(PRINCIPALS, RIGHTS, st.none() | TAGS)
def test_one_more_bound_lets_nothing_more_through(
    principal: Principal, more: Rights, sent: dict[str, str] | None
) -> None:
    narrower = Principal(
        "key_1",
        "ci",
        team="growth",
        project=principal.project,
        user=principal.user,
        rights=(more, *principal.rights),
        required_tags=principal.required_tags,
        tags_from=principal.tags_from,
    )
    if principal.required_tags:
        return  # what is pinned can be what was missing
    if _let_through(narrower, sent) is not None:
        assert _let_through(principal, sent) is not None


@given(TAGS)
def test_a_caller_without_any_bound_is_taken_at_its_word(sent: dict[str, str]) -> None:
    assert _let_through(Principal("key_1", "ci"), sent) == sent
