"""What was priced is what is sent: what a body says twice goes upstream once, with the value that counted."""

import pytest

from penstock.testing.lab import OUTPUT_NANOUSD, Lab

PATH = "/v1/chat/completions"
MESSAGES = b'"messages":[{"role":"user","content":"x"}]'


@pytest.mark.parametrize(
    ("first", "second"), [(b'"max_tokens":5', b'"max_tokens":999'), (b'"max_tokens":999', b'"max_tokens":5')]
)
def test_a_member_that_is_given_twice_reaches_the_provider_once(lab: Lab, first: bytes, second: bytes) -> None:
    body = b'{"model":"lab-model",' + first + b"," + MESSAGES + b"," + second + b"}"
    answer = lab.caller("ci").post(PATH, body)
    if answer.status == 200:
        sent = lab.provider.calls("lab-upstream")[0].body
        assert sent.count(b'"max_tokens"') == 1
    else:
        assert answer.status == 400


def test_a_model_that_is_given_twice_is_the_one_that_was_permitted(lab: Lab) -> None:
    body = b'{"model":"lab-model",' + MESSAGES + b',"max_tokens":5,"model":"other-model"}'
    answer = lab.caller("narrow").post(PATH, body)
    if answer.status == 200:
        assert [received.model for received in lab.provider.received] == ["other-upstream"]
        assert lab.provider.received[0].body.count(b'"model"') == 1
    else:
        assert answer.status in (400, 403)
        assert not lab.provider.received


@pytest.mark.parametrize("spelling", [b'"max\\u005ftokens":999', b'"m\\u0061x_tokens":999'])
def test_another_spelling_of_a_name_is_the_same_name(lab: Lab, spelling: bytes) -> None:
    body = b'{"model":"lab-model","max_tokens":5,' + MESSAGES + b"," + spelling + b"}"
    answer = lab.caller("ci").post(PATH, body)
    if answer.status == 200:
        sent = lab.provider.calls("lab-upstream")[0].json()
        assert sent["max_tokens"] in (5, 999)
        assert b"\\u00" not in lab.provider.calls("lab-upstream")[0].body


def test_the_dearer_of_two_output_caps_is_the_one_that_is_held(lab: Lab) -> None:
    body = b'{"model":"lab-model","max_tokens":5,"max_completion_tokens":200,' + MESSAGES + b"}"
    answer = lab.caller("hold-usd").post(PATH, body)
    assert 200 * OUTPUT_NANOUSD > 1_000_000
    assert answer.status in (400, 429)


def test_several_choices_are_held_for(lab: Lab) -> None:
    body = b'{"model":"lab-model","max_tokens":50,"n":3,' + MESSAGES + b"}"
    assert lab.caller("hold-usd").post(PATH, body).status == 429
    assert not lab.provider.received
