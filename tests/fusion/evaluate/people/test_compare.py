import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import spearmanr

from amr.data_manifests.crema_d import read_list
from amr.data_manifests.vggsound import read_test_list
from amr.fusion.evaluate.people.compare import against_people
from amr.fusion.evaluate.people.tags import parse_tags
from amr.fusion.evaluate.people.votes import distributions, find_votes, majority, parse_channels, read_votes

EMOTIONS = ("ANG", "DIS", "FEA", "HAP", "NEU", "SAD")
BOTH = ("audio", "video")


@pytest.fixture(scope="module")
def crema_d():
    return read_list()


def one_hot(codes, num_classes):
    return np.eye(num_classes)[codes]


def follow(table, channel):
    """Probabilities equal to the votes of one channel, and equal shares."""
    q = distributions(read_votes(table, EMOTIONS, BOTH).counts[channel])
    return q[None], np.full((1, len(q), 2), 0.5)


def test_people_who_hear_and_see_follow_the_face(crema_d):
    """62 % face, 18 % voice: over all clips of CREMA-D on which the majorities of voice and face votes differ."""
    (result,) = against_people(crema_d, EMOTIONS, BOTH, *follow(crema_d, "both"))
    conflict = result["votes"]["conflict"]
    assert conflict["num_clips"] == 3023
    assert round(conflict["people"]["face"], 2) == 0.62
    assert round(conflict["people"]["voice"], 2) == 0.18
    assert sum(conflict["people"].values()) == pytest.approx(1)


def test_a_head_that_answers_like_a_channel_follows_it(crema_d):
    for channel, other in (("voice", "face"), ("face", "voice")):
        (result,) = against_people(crema_d, EMOTIONS, BOTH, *follow(crema_d, channel))
        head = result["votes"]["conflict"]["head"]
        assert (head[channel], head[other], head["neither"]) == (1, 0, 0)
        low, high = result["votes"]["conflict"]["interval"][channel]
        assert low > 0.99
        assert high == 1
        distance = result["votes"]["distance"]["jensen_shannon"]
        assert distance["head"] == pytest.approx(distance[channel])
        assert distance["voice"] > distance["face"]
        assert result["votes"]["agreement"][channel]["head"] == 1


def test_the_votes_themselves_have_distance_zero_and_reach_their_entropy(crema_d):
    (result,) = against_people(crema_d, EMOTIONS, BOTH, *follow(crema_d, "both"))
    distance = result["votes"]["distance"]
    assert distance["jensen_shannon"]["head"] == pytest.approx(0, abs=1e-7)
    assert distance["cross_entropy"] == pytest.approx(distance["entropy"])
    assert result["votes"]["agreement"]["both"]["head"] == 1


def test_shares_equal_to_people_s_gain_correlate_with_it(crema_d):
    votes = read_votes(crema_d, EMOTIONS, BOTH)
    target = crema_d["label"].map(EMOTIONS.index).to_numpy()
    voice, face = (distributions(votes.counts[s])[np.arange(len(target)), target] for s in ("voice", "face"))
    audio = 0.5 + (voice - face) / 2
    probabilities = np.full((2, len(target), 6), 1 / 6)
    noise = np.random.default_rng(0).uniform(size=len(target))
    shares = np.stack([np.stack([s, 1 - s], axis=-1) for s in (audio, noise)])
    alike, random = against_people(crema_d, EMOTIONS, BOTH, probabilities, shares)
    assert alike["votes"]["correlation"]["audio"]["rho"] == pytest.approx(1, abs=1e-3)
    assert alike["votes"]["correlation"]["video"]["rho"] == pytest.approx(1, abs=1e-3)
    expected = spearmanr(noise, voice - face)
    assert random["votes"]["correlation"]["audio"]["rho"] == pytest.approx(expected.statistic)
    assert random["votes"]["correlation"]["audio"]["p"] == pytest.approx(expected.pvalue)


def small(**columns):
    return pd.DataFrame({"id": list("abcd"), "label": list("xyxy"), **columns}, dtype=str)


def small_votes(**names):
    counts = {
        "voice_x": "3120",
        "voice_y": "0220",
        "face_x": "0310",
        "face_y": "3010",
        "both_x": "2110",
        "both_y": "1130",
    }
    return small(**({f"votes_{key}": list(value) for key, value in counts.items()} | names))


def test_counts_on_four_clips():
    """Votes x:y. a: voice x, face y; b: voice y, face x; c, d: ties, or no votes."""
    table = small_votes()
    probabilities = one_hot(np.array([[0, 1, 0, 0]]), 2)
    (result,) = against_people(table, ("x", "y"), BOTH, probabilities, np.full((1, 4, 2), 0.5))
    votes = result["votes"]
    conflict = votes["conflict"]
    assert (conflict["num_clips"], conflict["num_tied"]) == (2, 2)
    assert conflict["head"] == {"voice": 1, "face": 0, "neither": 0}
    assert conflict["people"] == {"voice": 0.5, "face": 0, "neither": 0, "tie": 0.5}
    assert votes["distance"]["num_clips"] == 3
    assert votes["correlation"]["audio"] == {"num_clips": 3, "rho": None, "p": None}
    assert result["tags"] is None
    json.dumps(result, allow_nan=False)


def test_a_single_modality_has_no_conflict():
    (result,) = against_people(small_votes(), ("x", "y"), ("audio",), np.full((1, 4, 2), 0.5), np.ones((1, 4, 1)))
    assert result["votes"]["sources"] == {"voice": "audio"}
    assert result["votes"]["conflict"] is None
    assert result["votes"]["correlation"] == {"audio": None}


def test_three_channels_conflict_in_pairs():
    table = small_votes(votes_hand_x=list("1111"), votes_hand_y=list("0000"))
    channels = {"voice": "audio", "face": "video", "hand": "touch"}
    modalities = ("audio", "video", "touch")
    (result,) = against_people(
        table, ("x", "y"), modalities, np.full((1, 4, 2), 0.5), np.full((1, 4, 3), 1 / 3), channels=channels
    )
    assert list(result["votes"]["conflict"]) == ["voice/face", "voice/hand", "face/hand"]
    assert result["votes"]["correlation"]["touch"]["num_clips"] == 3


def test_channels_may_have_other_names():
    swapped = read_votes(small_votes(), ("x", "y"), BOTH, {"voice": "video", "face": "audio"})
    assert dict(swapped.modalities) == {"voice": "video", "face": "audio"}
    renamed = small_votes().rename(columns=lambda c: c.replace("voice", "audio"))
    assert dict(read_votes(renamed, ("x", "y"), BOTH).modalities) == {"audio": "audio", "face": "video"}


@pytest.mark.parametrize(
    ("table", "classes", "modalities", "channels", "message"),
    [
        (
            small(),
            ("x", "y"),
            BOTH,
            None,
            r"must find columns votes_<CHANNEL>_<CLASS> or vggsounder_modality",
        ),
        (
            small_votes(),
            ("0", "1"),
            BOTH,
            None,
            r"votes_voice_<CLASS> must be .*\(0, 1\), got x, y\. .*--label C",
        ),
        (small_votes(), ("x", "y"), BOTH, {"voise": "audio"}, r"--people must name channels .* got 'voise'"),
        (
            small_votes(),
            ("x", "y"),
            ("sound", "picture"),
            None,
            r"one of the modalities sound, picture, got .*Pass for example --people voice=sound",
        ),
        (small_votes(votes_both_x=list("12z0")), ("x", "y"), BOTH, None, r"votes_both_x must be a count .* got 'z'"),
        (small_votes(votes_both_x=["1", "2", "-1", "0"]), ("x", "y"), BOTH, None, r"must be a count .* got '-1'"),
    ],
)
def test_votes_that_do_not_match_are_refused(table, classes, modalities, channels, message):
    probabilities, shares = np.full((1, 4, 2), 0.5), np.full((1, 4, 2), 0.5)
    with pytest.raises(ValueError, match=message):
        against_people(table, classes, modalities, probabilities, shares, channels=channels)


@pytest.mark.parametrize("text", ["voice", "voice=", "=audio", "voice=audio,voice=video", ""])
def test_channels_must_be_pairs(text):
    with pytest.raises(ValueError, match="--people must be CHANNEL=MODALITY"):
        parse_channels(text)


@given(arrays(np.int64, st.tuples(st.integers(1, 20), st.integers(2, 6)), elements=st.integers(0, 4)))
def test_a_majority_has_more_votes_than_any_other_class(counts):
    for chosen, clip_counts in zip(majority(counts), counts, strict=True):
        ranked = np.sort(clip_counts)
        assert (ranked[-1] > ranked[-2]) == (chosen >= 0)
        assert chosen < 0 or clip_counts[chosen] == ranked[-1]


def test_tags_partition_the_clips_of_vggsound():
    table = read_test_list().head(2000)
    classes = tuple(sorted(read_test_list()["label"].unique()))
    target = table["label"].map(classes.index).to_numpy()
    rng = np.random.default_rng(0)
    wrong = rng.uniform(size=len(table)) < 0.3
    preds = np.where(wrong, rng.integers(0, len(classes), len(table)), target)
    shares = np.stack([table["vggsounder_modality"].eq("A"), ~table["vggsounder_modality"].eq("A")], axis=-1)
    (result,) = against_people(table, classes, BOTH, one_hot(preds[None], len(classes)), shares[None].astype(float))
    tags = result["tags"]
    assert result["votes"] is None
    assert tags["num_untagged"] + sum(of["num_clips"] for of in tags["label"].values()) == 2000
    for kind, share in (("A", 1), ("V", 0), ("AV", 0)):
        rows = (table["vggsounder_modality"] == kind).to_numpy()
        assert tags["label"][kind]["accuracy"] == pytest.approx((preds == target)[rows].mean())
        assert tags["label"][kind]["share"] == {"audio": share, "video": 1 - share}
        low, high = tags["label"][kind]["interval"]
        assert low < tags["label"][kind]["accuracy"] < high
    every = tags["any_tag"]
    assert every["accuracy"] == pytest.approx(every["A"] + every["V"] + every["AV"])
    assert every["num_clips"] == table["vggsounder"].ne("").sum()
    static = tags["flags"]["static_image"]
    assert static["yes"]["num_clips"] + static["no"]["num_clips"] == table["static_image"].ne("").sum()
    assert tags["flags"]["background_music"]["yes"]["accuracy"] is None


def test_tags_may_contain_commas_and_may_be_empty():
    assert parse_tags("male speech, man speaking:A;dog barking:AV") == {
        "male speech, man speaking": "A",
        "dog barking": "AV",
    }
    assert parse_tags("") == {}


def test_clips_without_shares_do_not_count_in_them():
    table = small(vggsounder_modality=["A", "A", "V", ""])
    shares = np.array([[[0.8, 0.2], [0, 0], [np.nan, np.nan], [0.5, 0.5]]])
    (result,) = against_people(table, ("x", "y"), BOTH, one_hot(np.array([[0, 0, 1, 1]]), 2), shares)
    tags = result["tags"]
    assert tags["label"]["A"]["share"]["audio"] == pytest.approx(0.8)
    assert tags["label"]["A"]["accuracy"] == 0.5
    assert tags["label"]["V"]["share"] == {"audio": None, "video": None}
    assert tags["any_tag"] is None


@pytest.mark.parametrize(
    ("imported", "advice"),
    [
        (True, "Run the same amr import again with --columns CSV and --overwrite"),
        (False, "Add them to the manifest CSV and run the same amr extract again"),
    ],
)
def test_a_cache_without_votes_is_told_how_to_get_them(imported, advice):
    with pytest.raises(ValueError, match=f"--against people must find columns .* {advice}"):
        find_votes(pd.DataFrame({"id": [], "label": []}), ["a", "b"], ["audio", "video"], imported=imported)
